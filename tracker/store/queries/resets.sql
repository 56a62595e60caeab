-- name: record_reset
-- The run that a reset made, as far as it is known before any worker has touched it. What workers
-- and history say later is merged in; where they were first, nothing is to do.
WITH made AS (
    INSERT INTO {schema}.run (
        id, namespace, engine, run_key, first_run_key, workflow_type, workflow_id, task_queue,
        ref_type, ref_id, ref_version, status, status_version, ordered_at, started_at)
    VALUES (%(id)s, %(namespace)s, 'temporal', %(run_key)s, %(first_run_key)s, %(workflow_type)s,
            %(workflow_id)s, %(task_queue)s, %(ref_type)s, %(ref_id)s, %(ref_version)s, 'running',
            %(status_version)s, %(started_at)s, %(started_at)s)
    ON CONFLICT DO NOTHING
    RETURNING *
),
announced AS (
    {announce made}
),
refs AS (
    INSERT INTO {schema}.run_ref (run_id, namespace, ref_type, ref_id, ordered_at)
    SELECT id, namespace, ref_type, ref_id, ordered_at FROM made WHERE ref_type IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO {schema}.workflow (namespace, workflow_type, ref_type, ref_id, created_at)
SELECT namespace, workflow_type, ref_type, ref_id, ordered_at FROM made
ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
