-- What the reconciler reads and keeps.

-- name: get_cursor
SELECT closed_through FROM {schema}.reconcile_cursor WHERE namespace = %(namespace)s

-- name: move_cursor
INSERT INTO {schema}.reconcile_cursor AS kept (namespace, closed_through)
VALUES (%(namespace)s, %(closed_through)s)
ON CONFLICT (namespace) DO UPDATE
SET closed_through = greatest(kept.closed_through, excluded.closed_through), updated_at = now()

-- name: known_runs
SELECT run_key, id, projected_length, erased_at IS NOT NULL AS erased FROM {schema}.run
WHERE namespace = %(namespace)s AND run_key = ANY(%(run_keys)s)

-- name: open_runs
SELECT id, ordered_at, workflow_id, run_key FROM {schema}.run
WHERE namespace = %(namespace)s AND status = 'running' AND engine = 'temporal'
  AND run_key IS NOT NULL
  AND ordered_at < now() - make_interval(secs => %(older_than)s)
  AND (ordered_at, id) > (coalesce(%(after_at)s, '-infinity'::timestamptz),
                          coalesce(%(after_id)s, '00000000-0000-0000-0000-000000000000'::uuid))
ORDER BY ordered_at, id
LIMIT %(limit)s

-- name: mark_lost
-- At the history length that the row has, so that any later word of the run reopens it.
UPDATE {schema}.run SET
    status = 'lost', status_version = (status_version >> 4 << 4) | %(rank)s,
    finished_at = clock_timestamp()
WHERE id = %(id)s AND status = 'running'
RETURNING id
