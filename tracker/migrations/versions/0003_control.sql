-- Control: runs that repeat others, metadata changed by people, and actions on many runs at once.
-- Runs with search_path set to the tracker's schema.

ALTER TABLE run
    ADD COLUMN rerun_of        uuid,
    ADD COLUMN metadata_patch  jsonb,
    ADD CONSTRAINT run_metadata_patch_check
        CHECK (metadata_patch IS NULL
               OR (jsonb_typeof(metadata_patch) = 'object' AND erased_at IS NULL));

CREATE INDEX run_rerun_idx ON run (namespace, rerun_of) WHERE rerun_of IS NOT NULL;

CREATE TABLE bulk (
    id           uuid             NOT NULL,
    namespace    text             NOT NULL,
    action       text             NOT NULL,
    filter       jsonb            NOT NULL,
    actor        text             NOT NULL,
    reason       text,
    status       text             NOT NULL,
    rate         double precision NOT NULL,
    total        bigint,
    error        text,
    created_at   timestamptz      NOT NULL DEFAULT now(),
    updated_at   timestamptz      NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT bulk_pkey PRIMARY KEY (id),
    CONSTRAINT bulk_action_check
        CHECK (action IN ('cancel', 'terminate', 'signal', 'rerun', 'reset')),
    CONSTRAINT bulk_status_check
        CHECK (status IN ('gathering', 'acting', 'completed', 'canceled', 'failed')),
    CONSTRAINT bulk_finished_check
        CHECK ((status IN ('completed', 'canceled', 'failed')) = (finished_at IS NOT NULL)),
    CONSTRAINT bulk_total_check CHECK (status IN ('gathering', 'canceled', 'failed')
                                       OR total IS NOT NULL),
    CONSTRAINT bulk_rate_check CHECK (rate > 0)
);
CREATE INDEX bulk_created_idx ON bulk (namespace, created_at, id);
COMMENT ON TABLE bulk IS 'Actions on all runs of a filter; arguments are not kept.';

CREATE TABLE bulk_item (
    bulk_id     uuid     NOT NULL,
    run_id      uuid     NOT NULL,
    status      text     NOT NULL DEFAULT 'pending',
    tries       integer  NOT NULL DEFAULT 0,
    new_run_id  uuid,
    error_code  text,
    error_message text,
    finished_at timestamptz,
    CONSTRAINT bulk_item_pkey PRIMARY KEY (bulk_id, run_id),
    CONSTRAINT bulk_item_status_check CHECK (status IN ('pending', 'done', 'failed')),
    CONSTRAINT bulk_item_finished_check CHECK ((status = 'pending') = (finished_at IS NULL)),
    CONSTRAINT bulk_item_error_check CHECK ((status = 'failed') = (error_code IS NOT NULL))
);
CREATE INDEX bulk_item_status_idx ON bulk_item (bulk_id, status, run_id);
COMMENT ON TABLE bulk_item IS 'One run of a bulk action, and what came of it.';

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
       r.unverifiable_at, r.erased_at, r.payloads_purged_at, r.rerun_of
FROM run r
LEFT JOIN payload i ON i.id = r.input_id
LEFT JOIN payload o ON o.id = r.output_id;
