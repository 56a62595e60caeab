-- Search: steps that have failed, grouped by what they failed of, and the filters that find them.
-- Runs with search_path set to the tracker's schema.

-- A table of its own, so that a step which never fails costs nothing here, and the rows of step keep
-- being updated in place.
CREATE TABLE step_failure (
    step_id        uuid        NOT NULL,
    namespace      text        NOT NULL,
    run_key        uuid        NOT NULL,
    workflow_type  text,
    kind           text        NOT NULL,
    name           text        NOT NULL,
    status         text        NOT NULL,
    attempts       integer,
    error_type     text        NOT NULL,
    error_message  text,
    build_id       text,
    first_at       timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL,
    -- What two failures have in common that are the same to a person: ids and numbers left out.
    fingerprint    uuid        NOT NULL GENERATED ALWAYS AS (md5(
        error_type || chr(31) || name || chr(31) || left(
            regexp_replace(
                regexp_replace(
                    coalesce(error_message, ''),
                    '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}|0x[0-9a-fA-F]+', '<id>', 'g'),
                '[0-9]+([.,:][0-9]+)*', '<n>', 'g'),
            300))::uuid) STORED,
    CONSTRAINT step_failure_pkey PRIMARY KEY (step_id),
    CONSTRAINT step_failure_kind_check CHECK (kind IN (
        'activity', 'local_activity', 'child_workflow', 'update', 'timer', 'signal',
        'nexus_operation')),
    CONSTRAINT step_failure_status_check CHECK (status IN (
        'scheduled', 'started', 'completed', 'failed', 'canceled', 'timed_out')),
    CONSTRAINT step_failure_seen_check CHECK (seen_at >= first_at)
);
CREATE INDEX step_failure_seen_idx ON step_failure (namespace, seen_at, step_id);
CREATE INDEX step_failure_status_idx ON step_failure (namespace, status, seen_at, step_id);
CREATE INDEX step_failure_type_idx ON step_failure (namespace, workflow_type, seen_at, step_id);
CREATE INDEX step_failure_name_idx ON step_failure (namespace, name, seen_at, step_id);
CREATE INDEX step_failure_error_idx ON step_failure (namespace, error_type, seen_at, step_id);
CREATE INDEX step_failure_fingerprint_idx
    ON step_failure (namespace, fingerprint, seen_at, step_id);
CREATE INDEX step_failure_run_idx ON step_failure (namespace, run_key);
CREATE INDEX step_failure_text_idx
    ON step_failure USING gin (to_tsvector('simple', coalesce(error_message, '')));
COMMENT ON TABLE step_failure IS
    'Steps of which at least one attempt failed, as they stand now, with the latest error.';

INSERT INTO step_failure (
    step_id, namespace, run_key, workflow_type, kind, name, status, attempts, error_type,
    error_message, first_at, seen_at)
SELECT s.id, s.namespace, s.run_key, r.workflow_type, s.kind, s.name, s.status, s.attempts,
       s.error_type, s.error_message, x.at, x.at
FROM step s
CROSS JOIN LATERAL (
    SELECT coalesce(s.finished_at, s.last_started_at, s.started_at, s.recorded_at) AS at) x
LEFT JOIN run r ON r.namespace = s.namespace AND r.run_key = s.run_key
WHERE s.error_type IS NOT NULL;

CREATE INDEX run_build_idx ON run (namespace, build_id, ordered_at, id)
    WHERE build_id IS NOT NULL;
CREATE INDEX run_duration_idx ON run (namespace, (finished_at - started_at))
    WHERE finished_at IS NOT NULL;
