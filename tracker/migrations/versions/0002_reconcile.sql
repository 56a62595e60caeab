-- What makes the tables provably true: how far reconciling has come, what open runs wait for, what
-- can not be verified any more, signals accepted in a transaction, holds, erasures and purges.
-- Runs with search_path set to the tracker's schema.

-- Code of an older revision works on as long as what it writes stays valid.
CREATE TABLE compatibility (
    oldest_revision text NOT NULL,
    CONSTRAINT compatibility_pkey PRIMARY KEY (oldest_revision)
);
COMMENT ON TABLE compatibility IS
    'One row: code that needs this revision of the schema, or a later one, may read and write.';
INSERT INTO compatibility (oldest_revision) VALUES ('0002');

ALTER TABLE watch_cursor RENAME TO reconcile_cursor;
ALTER TABLE reconcile_cursor RENAME CONSTRAINT watch_cursor_pkey TO reconcile_cursor_pkey;
ALTER TABLE reconcile_cursor
    ADD COLUMN started_through timestamptz,
    ADD COLUMN round_at        timestamptz,
    ADD COLUMN rounds          bigint NOT NULL DEFAULT 0,
    ADD COLUMN lag_seconds     double precision;
COMMENT ON TABLE reconcile_cursor IS 'How far the reconciler of a namespace has come.';

ALTER TABLE run
    ADD COLUMN waiting_on          jsonb,
    ADD COLUMN waiting_on_at       timestamptz,
    ADD COLUMN unverifiable_at     timestamptz,
    ADD COLUMN erased_at           timestamptz,
    ADD COLUMN payloads_purged_at  timestamptz,
    ADD CONSTRAINT run_waiting_on_check
        CHECK (waiting_on IS NULL
               OR (jsonb_typeof(waiting_on) = 'array' AND waiting_on_at IS NOT NULL)),
    ADD CONSTRAINT run_erased_check
        CHECK (erased_at IS NULL
               OR (input_id IS NULL AND output_id IS NULL AND metadata IS NULL
                   AND error_message IS NULL AND error_stack IS NULL));

-- Closed by the word of a worker alone; the number is tracker.core.status.HISTORY_AUTHORITY.
CREATE INDEX run_unverified_idx ON run (namespace, finished_at, id)
    WHERE finished_at IS NOT NULL AND run_key IS NOT NULL
      AND status_version < 1152921504606846976 AND unverifiable_at IS NULL;

CREATE INDEX run_erased_idx ON run (namespace, run_key) WHERE erased_at IS NOT NULL;
CREATE INDEX run_unverifiable_idx ON run (namespace) WHERE unverifiable_at IS NOT NULL;

ALTER TABLE outbox
    ALTER COLUMN on_conflict DROP NOT NULL,
    ADD COLUMN dead_at timestamptz,
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT outbox_kind_check,
    ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'signal')),
    ADD CONSTRAINT outbox_start_check CHECK ((kind = 'start') = (on_conflict IS NOT NULL)),
    ADD CONSTRAINT outbox_dead_check CHECK (dead_at IS NULL OR leased_until = 'infinity');
CREATE INDEX outbox_run_idx ON outbox (run_id, created_at, id);
CREATE INDEX outbox_dead_idx ON outbox (namespace, dead_at) WHERE dead_at IS NOT NULL;
COMMENT ON TABLE outbox IS
    'Accepted starts and signals that Temporal has not confirmed; `request` is the complete, '
    'encoded call.';

CREATE TABLE legal_hold (
    namespace  text        NOT NULL,
    ref_type   text        NOT NULL,
    ref_id     text        NOT NULL,
    reason     text        NOT NULL,
    actor      text        NOT NULL,
    held_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT legal_hold_pkey PRIMARY KEY (namespace, ref_type, ref_id)
);
COMMENT ON TABLE legal_hold IS 'Refs whose runs no purge and no erasure touches.';

CREATE TABLE payload_horizon (
    dropped_before timestamptz NOT NULL,
    dropped_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payload_horizon_pkey PRIMARY KEY (dropped_before)
);
COMMENT ON TABLE payload_horizon IS
    'Moments before which stored values were dropped by whole months.';

CREATE TABLE recorder (
    id           uuid        NOT NULL,
    worker       text        NOT NULL,
    seen_at      timestamptz NOT NULL,
    recorded     bigint      NOT NULL,
    written      bigint      NOT NULL,
    spilled      bigint      NOT NULL,
    dropped      bigint      NOT NULL,
    poisoned     bigint      NOT NULL,
    spill_bytes  bigint      NOT NULL,
    CONSTRAINT recorder_pkey PRIMARY KEY (id)
);
CREATE INDEX recorder_seen_idx ON recorder (seen_at);
COMMENT ON TABLE recorder IS 'What each recorder has taken in, written, spilled and lost so far.';

CREATE OR REPLACE VIEW v_runs AS
SELECT r.id AS run_id, r.namespace, r.engine, r.run_key AS temporal_run_id, r.workflow_type,
       r.workflow_id, r.task_queue, r.ref_type, r.ref_id, r.status, r.ordered_at, r.accepted_at,
       r.started_at, r.finished_at, r.paused_at, i.body AS input, o.body AS output,
       r.error_type, r.error_message, r.error_stack, r.metadata,
       r.first_run_key AS first_temporal_run_id, r.parent_run_key AS parent_temporal_run_id,
       r.root_run_key AS root_temporal_run_id, r.parent_workflow_id,
       r.continued_from AS continued_from_temporal_run_id,
       r.continued_to AS continued_to_temporal_run_id,
       r.attempt, r.cron_schedule, r.duplicate_of, r.worker_identity, r.build_id,
       r.task_failed_at, r.task_failure_type, r.task_failure_message,
       r.status_version >= (1::bigint << 60) AS from_history, r.projected_at,
       CASE WHEN r.finished_at IS NULL THEN r.waiting_on END AS waiting_on,
       CASE WHEN r.finished_at IS NULL THEN r.waiting_on_at END AS waiting_on_at,
       r.unverifiable_at, r.erased_at, r.payloads_purged_at
FROM run r
LEFT JOIN payload i ON i.id = r.input_id
LEFT JOIN payload o ON o.id = r.output_id;
