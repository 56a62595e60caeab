CREATE INDEX change_pending_run_idx ON change_pending (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX change_pending_run_key_idx ON change_pending (run_key, id) WHERE run_key IS NOT NULL;
