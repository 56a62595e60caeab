-- Accepted starts on their way to Temporal. Every statement locks the run before its outbox row.

-- name: lease
WITH due AS MATERIALIZED (
    SELECT id FROM {schema}.outbox
    WHERE namespace = %(namespace)s AND leased_until <= now()
    ORDER BY leased_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE {schema}.outbox o
SET leased_until = now() + make_interval(secs => %(lease)s), tries = o.tries + 1
FROM due WHERE o.id = due.id
RETURNING o.id, o.namespace, o.request, o.on_conflict, o.created_at, o.tries,
          o.cancel_requested_at IS NOT NULL AS cancel_requested

-- name: finish
WITH bound AS (
    UPDATE {schema}.run r SET
        run_key = coalesce(r.run_key, %(run_key)s),
        first_run_key = coalesce(r.first_run_key, %(run_key)s),
        started_at = least(r.started_at, greatest(%(started_at)s, clock_timestamp())),
        status_version = greatest(r.status_version, %(version)s),
        status = CASE WHEN %(version)s > r.status_version THEN 'running' ELSE r.status END,
        -- A run that was held to be canceled or rejected, and runs after all, is open again.
        finished_at = CASE WHEN %(version)s > r.status_version THEN NULL ELSE r.finished_at END,
        error_type = CASE WHEN %(version)s > r.status_version THEN NULL ELSE r.error_type END,
        error_message =
            CASE WHEN %(version)s > r.status_version THEN NULL ELSE r.error_message END,
        duplicate_of = CASE WHEN %(version)s > r.status_version THEN NULL ELSE r.duplicate_of END
    WHERE r.id = %(id)s AND (r.run_key IS NULL OR r.run_key = %(run_key)s)
      AND NOT EXISTS (SELECT FROM {schema}.run o WHERE o.namespace = r.namespace
                      AND o.run_key = %(run_key)s AND o.id <> r.id)
    RETURNING r.*
),
entry AS (
    -- Locking reads the row as it is now, not as of this statement's start.
    SELECT o.id, o.cancel_requested_at FROM bound b JOIN {schema}.outbox o ON o.id = b.id
    FOR UPDATE OF o
),
finished AS (
    DELETE FROM {schema}.outbox o USING entry e
    WHERE o.id = e.id AND e.cancel_requested_at IS NULL
),
workflow_row AS (
    INSERT INTO {schema}.workflow (
        namespace, workflow_type, ref_type, ref_id, metadata, created_at)
    SELECT namespace, workflow_type, ref_type, ref_id, metadata, ordered_at FROM bound
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
)
SELECT b.*,
       EXISTS (SELECT FROM entry WHERE cancel_requested_at IS NOT NULL) AS cancel_requested
FROM bound b

-- name: run_of_key
SELECT id FROM {schema}.run WHERE namespace = %(namespace)s AND run_key = %(run_key)s

-- name: reject
WITH refused AS (
    UPDATE {schema}.run r SET
        status = 'rejected', status_version = %(version)s, finished_at = clock_timestamp(),
        error_type = %(error_type)s, error_message = %(error_message)s,
        duplicate_of = %(duplicate_of)s
    WHERE r.id = %(id)s AND r.status_version < %(version)s
    RETURNING r.*
),
gone AS (
    DELETE FROM {schema}.outbox o
    WHERE o.id = %(id)s AND (SELECT count(*) FROM refused) IS NOT NULL
),
workflow_row AS (
    INSERT INTO {schema}.workflow (
        namespace, workflow_type, ref_type, ref_id, metadata, created_at)
    SELECT namespace, workflow_type, ref_type, ref_id, metadata, ordered_at FROM refused
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
)
SELECT * FROM refused

-- name: adopt
WITH adopted AS (
    INSERT INTO {schema}.run (
        id, namespace, engine, run_key, first_run_key, workflow_type, workflow_id, task_queue,
        ref_type, ref_id, ref_version, status, status_version, ordered_at, started_at)
    VALUES (
        %(id)s, %(namespace)s, 'temporal', %(run_key)s, %(first_run_key)s, %(workflow_type)s,
        %(workflow_id)s, %(task_queue)s, %(ref_type)s, %(ref_id)s, %(ref_version)s, 'running',
        %(version)s, %(started_at)s, %(started_at)s)
    ON CONFLICT DO NOTHING
    RETURNING *
),
ref_row AS (
    INSERT INTO {schema}.run_ref (run_id, namespace, ref_type, ref_id, ordered_at)
    SELECT id, namespace, ref_type, ref_id, ordered_at FROM adopted WHERE ref_type IS NOT NULL
    ON CONFLICT DO NOTHING
),
workflow_row AS (
    INSERT INTO {schema}.workflow (namespace, workflow_type, ref_type, ref_id, created_at)
    SELECT namespace, workflow_type, ref_type, ref_id, ordered_at FROM adopted
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
)
SELECT id FROM adopted

-- name: put_back
UPDATE {schema}.outbox
SET leased_until = now() + make_interval(secs => %(delay)s), last_error = %(error)s
WHERE id = %(id)s AND tries = %(tries)s

-- name: discard
DELETE FROM {schema}.outbox WHERE id = %(id)s

-- name: lock_run
SELECT status FROM {schema}.run WHERE id = %(id)s FOR UPDATE

-- name: lock_entry
SELECT tries FROM {schema}.outbox WHERE id = %(id)s FOR UPDATE

-- name: request_cancel
UPDATE {schema}.outbox SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %(id)s

-- name: mark_canceled
WITH canceled AS (
    UPDATE {schema}.run r SET
        status = 'canceled', status_version = %(version)s, finished_at = clock_timestamp()
    WHERE r.id = %(id)s AND r.status_version < %(version)s
    RETURNING r.*
),
gone AS (
    DELETE FROM {schema}.outbox o
    WHERE o.id = %(id)s AND (SELECT count(*) FROM canceled) IS NOT NULL
),
workflow_row AS (
    INSERT INTO {schema}.workflow (
        namespace, workflow_type, ref_type, ref_id, metadata, created_at)
    SELECT namespace, workflow_type, ref_type, ref_id, metadata, ordered_at FROM canceled
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
)
SELECT id FROM canceled
