-- Accepted starts and signals on their way to Temporal. Every statement locks the run before its outbox row.

-- name: lease
-- Looks at the longest due entries only, so the cost does not grow with what is due. A signal whose
-- run has a start or an earlier signal in the outbox is put behind that one, and not leased.
WITH front AS MATERIALIZED (
    SELECT id, kind, run_id, created_at, leased_until FROM {schema}.outbox
    WHERE namespace = %(namespace)s AND leased_until <= now()
    ORDER BY leased_until LIMIT %(front)s
    FOR UPDATE SKIP LOCKED
),
judged AS MATERIALIZED (
    SELECT f.id, f.leased_until, CASE WHEN f.kind = 'signal' THEN coalesce(
        (SELECT s.leased_until FROM {schema}.outbox s
         WHERE s.id = f.run_id AND s.kind = 'start'),
        (SELECT e.leased_until FROM {schema}.outbox e
         WHERE e.run_id = f.run_id AND (e.created_at, e.id) < (f.created_at, f.id)
           AND e.kind = 'signal' AND e.dead_at IS NULL
         ORDER BY e.created_at, e.id LIMIT 1)) END AS behind
    FROM front f
),
taken AS (
    UPDATE {schema}.outbox o
    SET leased_until = now() + make_interval(secs => %(lease)s), tries = o.tries + 1
    FROM (SELECT id FROM judged WHERE behind IS NULL ORDER BY leased_until LIMIT %(limit)s) free
    WHERE o.id = free.id
    RETURNING o.*
),
held AS (
    UPDATE {schema}.outbox o
    SET leased_until = now() + least(greatest(j.behind - now(), interval '0.1 s'),
                                     make_interval(secs => %(held_max)s))
    FROM judged j WHERE o.id = j.id AND j.behind IS NOT NULL
    RETURNING o.id
)
SELECT t.id, t.kind, t.namespace, t.run_id, t.request, t.on_conflict, t.created_at, t.tries,
       t.cancel_requested_at IS NOT NULL AS cancel_requested, r.id IS NOT NULL AS on_record,
       r.run_key, r.first_run_key, 0 AS held
FROM taken t
-- A start that ended in the run of somebody else: that one is meant by now.
LEFT JOIN {schema}.run g ON t.kind = 'signal' AND g.id = t.run_id
LEFT JOIN {schema}.run r ON r.id = coalesce(g.duplicate_of, g.id)
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, count(*)
FROM held HAVING count(*) > 0

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
announced AS (
    -- Not where a worker was first: its own report was announced.
    {announce bound} WHERE n.status_version = %(version)s
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
awake AS (
    -- The first signal that waited for this start. One that was tried is somebody's, or pauses.
    UPDATE {schema}.outbox o SET leased_until = now() FROM bound b
    WHERE o.tries = 0 AND o.dead_at IS NULL AND o.id = (
        SELECT id FROM {schema}.outbox n
        WHERE n.run_id = b.id AND n.kind = 'signal' AND n.dead_at IS NULL
        ORDER BY n.created_at, n.id LIMIT 1)
),
workflow_row AS (
    INSERT INTO {schema}.workflow (
        namespace, workflow_type, ref_type, ref_id, metadata, created_at)
    SELECT namespace, workflow_type, ref_type, ref_id, metadata, ordered_at FROM bound
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
)
SELECT {run_columns},
       EXISTS (SELECT FROM entry WHERE cancel_requested_at IS NOT NULL) AS cancel_requested
FROM bound r

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
announced AS (
    {announce refused}
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
announced AS (
    {announce adopted}
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
-- A dead start is revived: only a try can tell whether it runs.
UPDATE {schema}.outbox SET
    cancel_requested_at = coalesce(cancel_requested_at, now()),
    leased_until = CASE WHEN dead_at IS NULL THEN leased_until ELSE now() END,
    dead_at = NULL, failures = 0
WHERE id = %(id)s

-- name: mark_canceled
WITH canceled AS (
    UPDATE {schema}.run r SET
        status = 'canceled', status_version = %(version)s, finished_at = clock_timestamp()
    WHERE r.id = %(id)s AND r.status_version < %(version)s
    RETURNING r.*
),
announced AS (
    {announce canceled}
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

-- name: deliver
-- Temporal has the signal; the next one of its run becomes due.
WITH gone AS (
    DELETE FROM {schema}.outbox WHERE id = %(id)s RETURNING run_id, created_at, id
)
UPDATE {schema}.outbox o SET leased_until = now() FROM gone g
WHERE o.tries = 0 AND o.dead_at IS NULL AND o.id = (
    SELECT id FROM {schema}.outbox n
    WHERE n.run_id = g.run_id AND (n.created_at, n.id) > (g.created_at, g.id)
      AND n.kind = 'signal' AND n.dead_at IS NULL
    ORDER BY n.created_at, n.id LIMIT 1)
