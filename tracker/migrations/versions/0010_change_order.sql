-- Steps that were told before their run was on record: erasing finds them by this. First here, for it
-- reads a large table, and writers wait for the small one from the next index on.
CREATE INDEX change_unknown_run_idx ON change (run_key) WHERE run_id IS NULL;

-- What a run announced: its changes keep their order.
CREATE INDEX change_pending_run_idx ON change_pending (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX change_pending_run_key_idx ON change_pending (run_key, id) WHERE run_key IS NOT NULL;
