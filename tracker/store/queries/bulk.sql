-- Actions on many runs: the action itself, and one row per run.

-- name: create_bulk
INSERT INTO {schema}.bulk (id, namespace, action, filter, actor, reason, status, rate)
VALUES (%(id)s, %(namespace)s, %(action)s, CAST(%(filter)s AS jsonb), %(actor)s, %(reason)s,
        'gathering', %(rate)s)
ON CONFLICT (id) DO NOTHING

-- name: get_bulk
SELECT b.*, c.pending, c.done, c.failed
FROM {schema}.bulk b
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
           count(*) FILTER (WHERE status = 'done') AS done,
           count(*) FILTER (WHERE status = 'failed') AS failed
    FROM {schema}.bulk_item i WHERE i.bulk_id = b.id
) c
WHERE b.id = %(id)s AND b.namespace = %(namespace)s

-- name: list_bulks
SELECT b.*, c.pending, c.done, c.failed
FROM (
    SELECT * FROM {schema}.bulk
    WHERE namespace = %(namespace)s
      AND (created_at, id) < (%(after_at)s, %(after_id)s)
    ORDER BY created_at DESC, id DESC LIMIT %(limit)s
) b
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
           count(*) FILTER (WHERE status = 'done') AS done,
           count(*) FILTER (WHERE status = 'failed') AS failed
    FROM {schema}.bulk_item i WHERE i.bulk_id = b.id
) c
ORDER BY b.created_at DESC, b.id DESC

-- name: add_items
INSERT INTO {schema}.bulk_item (bulk_id, run_id)
SELECT %(id)s, run_id FROM unnest(%(run_ids)s::uuid[]) AS x(run_id)
ON CONFLICT DO NOTHING

-- name: start_acting
UPDATE {schema}.bulk SET status = 'acting', updated_at = clock_timestamp(),
    total = (SELECT count(*) FROM {schema}.bulk_item WHERE bulk_id = %(id)s)
WHERE id = %(id)s AND status = 'gathering'

-- name: claim_items
UPDATE {schema}.bulk_item SET tries = tries + 1
WHERE bulk_id = %(id)s AND run_id IN (
    SELECT run_id FROM {schema}.bulk_item
    WHERE bulk_id = %(id)s AND status = 'pending'
    ORDER BY run_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING run_id, tries

-- name: end_item
WITH touched AS (
    UPDATE {schema}.bulk SET updated_at = clock_timestamp() WHERE id = %(id)s
)
UPDATE {schema}.bulk_item SET
    status = %(status)s, new_run_id = %(new_run_id)s, error_code = %(error_code)s,
    error_message = %(error_message)s, finished_at = clock_timestamp()
WHERE bulk_id = %(id)s AND run_id = %(run_id)s AND status = 'pending'

-- name: end_bulk
UPDATE {schema}.bulk SET status = %(status)s, error = %(error)s, updated_at = clock_timestamp(),
    finished_at = clock_timestamp()
WHERE id = %(id)s AND finished_at IS NULL

-- name: list_items
SELECT run_id, status, tries, new_run_id, error_code, error_message, finished_at
FROM {schema}.bulk_item
WHERE bulk_id = %(id)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND run_id > %(after_id)s
ORDER BY run_id LIMIT %(limit)s
