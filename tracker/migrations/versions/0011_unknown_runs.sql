-- In a transaction of its own: it reads a large table, and a sequencer that holds the small ones waits
-- for it.
CREATE INDEX change_unknown_run_idx ON change (run_key) WHERE run_id IS NULL;
