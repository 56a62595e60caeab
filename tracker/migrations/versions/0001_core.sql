-- The spine: workflow, run, step, attempt, payload, and what starting and reading them needs.
-- Runs with search_path set to the tracker's schema. CHECKs repeat the rules of tracker.core.

CREATE TABLE workflow (
    id             uuid        NOT NULL DEFAULT gen_random_uuid(),
    namespace      text        NOT NULL,
    workflow_type  text        NOT NULL,
    ref_type       text,
    ref_id         text,
    metadata       jsonb,
    created_at     timestamptz NOT NULL,
    CONSTRAINT workflow_pkey PRIMARY KEY (id),
    CONSTRAINT workflow_identity_key
        UNIQUE NULLS NOT DISTINCT (namespace, workflow_type, ref_type, ref_id),
    CONSTRAINT workflow_ref_check CHECK ((ref_type IS NULL) = (ref_id IS NULL))
);
CREATE INDEX workflow_created_idx ON workflow (namespace, created_at, id);
CREATE INDEX workflow_type_idx ON workflow (namespace, workflow_type, created_at, id);
CREATE INDEX workflow_ref_idx ON workflow (namespace, ref_type, ref_id, created_at, id)
    WHERE ref_type IS NOT NULL;
COMMENT ON TABLE workflow IS
    'One workflow type for one ref. Identity only: what changes is read from run, by index.';

CREATE TABLE run (
    id                    uuid        NOT NULL,
    namespace             text        NOT NULL,
    engine                text        NOT NULL,
    run_key               uuid,
    workflow_type         text        NOT NULL,
    workflow_id           text        NOT NULL,
    task_queue            text,
    ref_type              text,
    ref_id                text,
    ref_version           integer,
    status                text        NOT NULL,
    status_version        bigint      NOT NULL,
    ordered_at            timestamptz NOT NULL,
    accepted_at           timestamptz,
    started_at            timestamptz,
    finished_at           timestamptz,
    paused_at             timestamptz,
    input_id              uuid,
    input_version         integer,
    output_id             uuid,
    error_type            text,
    error_message         text,
    error_stack           text,
    metadata              jsonb,
    metadata_version      bigint,
    first_run_key         uuid,
    continued_from        uuid,
    continued_to          uuid,
    parent_run_key        uuid,
    parent_workflow_id    text,
    root_run_key          uuid,
    attempt               integer,
    cron_schedule         text,
    duplicate_of          uuid,
    worker_identity       text,
    build_id              text,
    worker_version        bigint,
    task_failed_at        timestamptz,
    task_failure_type     text,
    task_failure_message  text,
    task_failure_version  bigint,
    projected_length      bigint,
    projected_at          timestamptz,
    recorded_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT run_pkey PRIMARY KEY (id),
    CONSTRAINT run_key_key UNIQUE (namespace, run_key),
    CONSTRAINT run_engine_check CHECK (engine IN ('temporal', 'external', 'pathway')),
    CONSTRAINT run_status_check CHECK (status IN (
        'accepted', 'rejected', 'running', 'completed', 'failed', 'canceled', 'terminated',
        'timed_out', 'continued_as_new', 'lost')),
    CONSTRAINT run_finished_check
        CHECK ((status IN ('accepted', 'running')) = (finished_at IS NULL)),
    CONSTRAINT run_started_check
        CHECK (status IN ('accepted', 'rejected', 'canceled') OR started_at IS NOT NULL),
    CONSTRAINT run_output_check CHECK (output_id IS NULL OR status = 'completed'),
    CONSTRAINT run_ref_check CHECK ((ref_type IS NULL) = (ref_id IS NULL)),
    CONSTRAINT run_metadata_check CHECK (metadata IS NULL OR jsonb_typeof(metadata) = 'object')
);

CREATE INDEX run_ordered_idx ON run (namespace, ordered_at, id);
CREATE INDEX run_status_idx ON run (namespace, status, ordered_at, id);
CREATE INDEX run_type_status_idx ON run (namespace, workflow_type, status, ordered_at, id);
-- Plain columns, not coalesce(…): counting the runs of a workflow must not visit the table.
CREATE INDEX run_workflow_idx ON run
    (namespace, workflow_type, ref_type, ref_id, ordered_at, id);
CREATE INDEX run_queue_idx ON run (namespace, task_queue, ordered_at, id);
CREATE INDEX run_workflow_id_idx ON run (namespace, workflow_id, ordered_at, id);
CREATE INDEX run_finished_idx ON run (namespace, finished_at, id) WHERE finished_at IS NOT NULL;
-- Ranges of started_at and finished_at are searched along ordered_at, which lies within a minute of
-- started_at and before finished_at; these few runs (started after an outage, clocks apart) are the
-- exception. tracker.store.run_filters repeats the condition.
CREATE INDEX run_skewed_idx ON run (namespace, ordered_at, id)
    WHERE started_at - ordered_at NOT BETWEEN '-00:01:00' AND '00:01:00'
       OR finished_at - ordered_at < '-00:01:00';
CREATE INDEX run_parent_idx ON run (namespace, parent_run_key) WHERE parent_run_key IS NOT NULL;

CREATE TABLE run_ref (
    run_id      uuid        NOT NULL,
    namespace   text        NOT NULL,
    ref_type    text        NOT NULL,
    ref_id      text        NOT NULL,
    ordered_at  timestamptz NOT NULL,
    CONSTRAINT run_ref_pkey PRIMARY KEY (run_id, ref_type, ref_id),
    CONSTRAINT run_ref_length_check
        CHECK (length(ref_type) BETWEEN 1 AND 100 AND length(ref_id) BETWEEN 1 AND 200
               AND position('/' IN ref_type) = 0)
);
CREATE INDEX run_ref_idx ON run_ref (namespace, ref_type, ref_id, ordered_at, run_id);
CREATE INDEX run_ref_type_idx ON run_ref (namespace, ref_type, ordered_at, run_id);
COMMENT ON TABLE run_ref IS 'Every ref of a run, the primary one included.';

CREATE TABLE run_label (
    run_id      uuid        NOT NULL,
    key         text        NOT NULL,
    value       text        NOT NULL,
    namespace   text        NOT NULL,
    ordered_at  timestamptz NOT NULL,
    CONSTRAINT run_label_pkey PRIMARY KEY (run_id, key)
);
CREATE INDEX run_label_idx ON run_label (namespace, key, value, ordered_at, run_id);
COMMENT ON TABLE run_label IS
    'Scalar metadata values up to 256 characters, for filters that GIN answers too slowly.';

CREATE TABLE step (
    id               uuid        NOT NULL,
    namespace        text        NOT NULL,
    run_key          uuid        NOT NULL,
    kind             text        NOT NULL,
    step_key         text        NOT NULL,
    name             text        NOT NULL,
    type             text,
    status           text        NOT NULL,
    status_version   bigint      NOT NULL,
    task_queue       text,
    attempts         integer,
    max_attempts     integer,
    scheduled_at     timestamptz,
    started_at       timestamptz,
    last_started_at  timestamptz,
    finished_at      timestamptz,
    next_retry_at    timestamptz,
    input_id         uuid,
    input_version    integer,
    output_id        uuid,
    error_type       text,
    error_message    text,
    progress         jsonb,
    progress_at      timestamptz,
    detail           jsonb,
    event_id         integer,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT step_pkey PRIMARY KEY (id),
    CONSTRAINT step_kind_check CHECK (kind IN (
        'activity', 'local_activity', 'child_workflow', 'update', 'timer', 'signal',
        'nexus_operation')),
    CONSTRAINT step_status_check CHECK (status IN (
        'scheduled', 'started', 'completed', 'failed', 'canceled', 'timed_out')),
    CONSTRAINT step_finished_check
        CHECK ((status IN ('scheduled', 'started')) = (finished_at IS NULL)),
    CONSTRAINT step_retry_check CHECK (next_retry_at IS NULL OR status = 'scheduled'),
    CONSTRAINT step_output_check CHECK (output_id IS NULL OR status = 'completed')
);
CREATE INDEX step_run_idx ON step (namespace, run_key);

CREATE TABLE attempt (
    id               uuid        NOT NULL,
    step_id          uuid        NOT NULL,
    number           integer     NOT NULL,
    outcome          text        NOT NULL,
    outcome_version  integer     NOT NULL,
    scheduled_at     timestamptz,
    started_at       timestamptz NOT NULL,
    finished_at      timestamptz,
    next_retry_at    timestamptz,
    error_type       text,
    error_message    text,
    error_stack      text,
    task_queue       text,
    worker_identity  text,
    build_id         text,
    trace_id         text,
    annotations      jsonb,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT attempt_pkey PRIMARY KEY (id),
    CONSTRAINT attempt_number_check CHECK (number >= 1),
    CONSTRAINT attempt_outcome_check CHECK (outcome IN (
        'running', 'completed', 'failed', 'canceled', 'timed_out', 'lost')),
    CONSTRAINT attempt_finished_check CHECK ((outcome = 'running') = (finished_at IS NULL)),
    CONSTRAINT attempt_retry_check
        CHECK (next_retry_at IS NULL OR outcome IN ('failed', 'timed_out'))
);
CREATE INDEX attempt_step_idx ON attempt (step_id, started_at);

-- Ids are UUIDv7-shaped and take their time from the run, so a range of ids is a range of time:
-- dropping a month's partition is the purge of its payloads. Partitions: tracker.store.partitions.
CREATE TABLE payload (
    id         uuid        NOT NULL,
    treatment  text        NOT NULL,
    encoding   text        NOT NULL,
    size       integer     NOT NULL,
    digest     bytea       NOT NULL,
    body       jsonb,
    data       bytea,
    stored_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payload_pkey PRIMARY KEY (id),
    CONSTRAINT payload_treatment_check
        CHECK (treatment IN ('full', 'redacted', 'digest', 'encoded', 'too_large')),
    CONSTRAINT payload_kept_check
        CHECK (treatment NOT IN ('digest', 'too_large') OR (body IS NULL AND data IS NULL))
) PARTITION BY RANGE (id);
CREATE TABLE payload_default PARTITION OF payload DEFAULT;

CREATE TABLE outbox (
    id                   uuid        NOT NULL,
    kind                 text        NOT NULL,
    namespace            text        NOT NULL,
    run_id               uuid        NOT NULL,
    request              bytea       NOT NULL,
    on_conflict          text        NOT NULL,
    created_at           timestamptz NOT NULL DEFAULT now(),
    leased_until         timestamptz NOT NULL,
    tries                integer     NOT NULL DEFAULT 0,
    last_error           text,
    cancel_requested_at  timestamptz,
    CONSTRAINT outbox_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_kind_check CHECK (kind IN ('start')),
    CONSTRAINT outbox_on_conflict_check CHECK (on_conflict IN ('reject', 'existing'))
);
CREATE INDEX outbox_due_idx ON outbox (namespace, leased_until);
COMMENT ON TABLE outbox IS
    'Accepted starts that Temporal has not confirmed; `request` is the complete, encoded call.';

CREATE TABLE idempotency (
    namespace   text        NOT NULL,
    key         text        NOT NULL,
    digest      bytea       NOT NULL,
    run_id      uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_pkey PRIMARY KEY (namespace, key)
);

CREATE TABLE workflow_type (
    namespace      text        NOT NULL,
    name           text        NOT NULL,
    aliases        text[]      NOT NULL DEFAULT '{}',
    task_queue     text,
    input_schema   jsonb,
    registered_at  timestamptz,
    first_seen_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_type_pkey PRIMARY KEY (namespace, name)
);
COMMENT ON COLUMN workflow_type.registered_at IS
    'When a worker last announced it; NULL for a type that was only seen in runs.';

CREATE TABLE api_key (
    id            uuid        NOT NULL,
    name          text        NOT NULL,
    secret_hash   bytea       NOT NULL,
    scopes        text[]      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    CONSTRAINT api_key_pkey PRIMARY KEY (id),
    CONSTRAINT api_key_secret_key UNIQUE (secret_hash),
    CONSTRAINT api_key_name_key UNIQUE (name),
    CONSTRAINT api_key_scopes_check
        CHECK (cardinality(scopes) > 0
               AND scopes <@ ARRAY['read', 'start', 'control', 'admin'])
);

CREATE TABLE audit (
    id         uuid        NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    namespace  text        NOT NULL,
    actor      text        NOT NULL,
    action     text        NOT NULL,
    run_id     uuid,
    reason     text,
    outcome    text        NOT NULL,
    details    jsonb,
    CONSTRAINT audit_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_run_idx ON audit (run_id, at);

CREATE TABLE watch_cursor (
    namespace       text        NOT NULL,
    closed_through  timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT watch_cursor_pkey PRIMARY KEY (namespace)
);
COMMENT ON TABLE watch_cursor IS 'Up to which close time the watcher has projected runs.';

-- The views carry a compatibility promise (docs/sql.md); the tables do not.

CREATE VIEW v_attempts AS
SELECT a.id AS attempt_id, a.step_id, s.namespace, r.id AS run_id, s.run_key AS temporal_run_id,
       s.name AS step_name, s.kind AS step_kind, a.number,
       CASE WHEN a.outcome = 'running'
                 AND (s.finished_at IS NOT NULL OR a.started_at < s.last_started_at)
            THEN 'lost' ELSE a.outcome END AS outcome,
       a.scheduled_at, a.started_at, a.finished_at, a.next_retry_at,
       a.error_type, a.error_message, a.error_stack,
       a.task_queue, a.worker_identity, a.build_id, a.trace_id, a.annotations,
       r.workflow_type, r.ref_type, r.ref_id
FROM attempt a
JOIN step s ON s.id = a.step_id
LEFT JOIN run r ON r.namespace = s.namespace AND r.run_key = s.run_key;

CREATE VIEW v_steps AS
SELECT s.id AS step_id, s.namespace, r.id AS run_id, s.run_key AS temporal_run_id,
       s.kind, s.name, s.type, s.status, coalesce(s.attempts, 0) AS attempts, s.max_attempts,
       s.task_queue, s.scheduled_at, s.started_at, s.last_started_at, s.finished_at,
       s.next_retry_at, s.error_type, s.error_message, s.progress, s.progress_at, s.detail,
       i.body AS input, o.body AS output,
       s.status_version >= (1::bigint << 60) AS from_history,
       r.workflow_type, r.ref_type, r.ref_id
FROM step s
LEFT JOIN run r ON r.namespace = s.namespace AND r.run_key = s.run_key
LEFT JOIN payload i ON i.id = s.input_id
LEFT JOIN payload o ON o.id = s.output_id;

CREATE VIEW v_runs AS
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
       r.status_version >= (1::bigint << 60) AS from_history, r.projected_at
FROM run r
LEFT JOIN payload i ON i.id = r.input_id
LEFT JOIN payload o ON o.id = r.output_id;

-- Two branches each, since `=` finds no NULL and IS NOT DISTINCT FROM no index; the order repeats
-- the columns of run_workflow_idx so that the latest run is its last entry.
CREATE VIEW v_refs AS
SELECT f.namespace, f.ref_type, f.ref_id, f.run_id,
       (r.ref_type, r.ref_id) IS NOT DISTINCT FROM (f.ref_type, f.ref_id) AS is_primary,
       r.workflow_type, r.status, f.ordered_at
FROM run_ref f
JOIN run r ON r.id = f.run_id;

CREATE VIEW v_workflows AS
SELECT w.id AS workflow_row_id, w.namespace, w.workflow_type, w.ref_type, w.ref_id, w.metadata,
       w.created_at, latest.id AS latest_run_id, latest.status AS latest_status,
       latest.ordered_at AS latest_ordered_at, latest.output_id AS latest_output_id,
       counted.runs_count
FROM workflow w
CROSS JOIN LATERAL (
    (SELECT r.id, r.status, r.ordered_at, r.output_id FROM run r
     WHERE r.namespace = w.namespace AND r.workflow_type = w.workflow_type
       AND r.ref_type = w.ref_type AND r.ref_id = w.ref_id
     ORDER BY r.ordered_at DESC, r.id DESC LIMIT 1)
    UNION ALL
    (SELECT r.id, r.status, r.ordered_at, r.output_id FROM run r
     WHERE w.ref_type IS NULL
       AND r.namespace = w.namespace AND r.workflow_type = w.workflow_type
       AND r.ref_type IS NULL AND r.ref_id IS NULL
     ORDER BY r.ref_type DESC, r.ref_id DESC, r.ordered_at DESC, r.id DESC LIMIT 1)
) latest
CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM run r
            WHERE r.namespace = w.namespace AND r.workflow_type = w.workflow_type
              AND r.ref_type = w.ref_type AND r.ref_id = w.ref_id)
         + (SELECT count(*) FROM run r
            WHERE w.ref_type IS NULL
              AND r.namespace = w.namespace AND r.workflow_type = w.workflow_type
              AND r.ref_type IS NULL AND r.ref_id IS NULL) AS runs_count
) counted;
