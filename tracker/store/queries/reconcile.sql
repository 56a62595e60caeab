-- What the reconciler reads and keeps.

-- name: known_run
SELECT clock_timestamp() AS now, r.id, r.projected_length, r.erased_at IS NOT NULL AS erased
FROM (SELECT %(namespace)s::text AS namespace, %(run_key)s::uuid AS run_key) asked
LEFT JOIN {schema}.run r USING (namespace, run_key)

-- name: get_cursor
-- What began or closed before the first round is not taken in.
SELECT coalesce(c.closed_through, now()) AS closed_through,
       coalesce(c.started_through, now()) AS started_through
FROM (SELECT %(namespace)s::text AS namespace) asked
LEFT JOIN {schema}.reconcile_cursor c USING (namespace)

-- name: move_cursor
INSERT INTO {schema}.reconcile_cursor AS kept (
    namespace, closed_through, started_through, round_at, rounds, lag_seconds)
VALUES (%(namespace)s, %(closed_through)s, %(started_through)s, clock_timestamp(), 1,
        coalesce(extract(epoch FROM clock_timestamp() - %(oldest)s::timestamptz), 0))
ON CONFLICT (namespace) DO UPDATE
SET closed_through = greatest(kept.closed_through, excluded.closed_through),
    started_through = greatest(kept.started_through, excluded.started_through),
    round_at = excluded.round_at, rounds = kept.rounds + 1, lag_seconds = excluded.lag_seconds,
    updated_at = now()
RETURNING closed_through

-- name: known_runs
SELECT run_key, id, projected_length, erased_at IS NOT NULL AS erased FROM {schema}.run
WHERE namespace = %(namespace)s AND run_key = ANY(%(run_keys)s)

-- name: open_runs
SELECT id, ordered_at, workflow_id, run_key, projected_length FROM {schema}.run
WHERE namespace = %(namespace)s AND status = 'running' AND engine = 'temporal'
  AND run_key IS NOT NULL
  AND ordered_at < now() - make_interval(secs => %(older_than)s)
  AND (ordered_at, id) > (coalesce(%(after_at)s, '-infinity'::timestamptz),
                          coalesce(%(after_id)s, '00000000-0000-0000-0000-000000000000'::uuid))
ORDER BY ordered_at, id
LIMIT %(limit)s

-- name: open_steps
-- With the attempts of each that the tables hold under way.
SELECT s.id, s.run_key, s.kind, s.step_key, s.name, s.type, s.task_queue, s.detail,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'number', a.number, 'started_at', a.started_at) ORDER BY a.started_at), '[]')
        FROM {schema}.attempt a WHERE a.step_id = s.id AND a.outcome = 'running') AS running
FROM {schema}.step s
WHERE s.namespace = %(namespace)s AND s.run_key = ANY(%(run_keys)s)
  AND s.status IN ('scheduled', 'started')
  AND s.kind IN ('activity', 'timer', 'child_workflow', 'nexus_operation')
ORDER BY s.run_key, s.scheduled_at, s.id
LIMIT %(limit)s

-- name: note_waiting
-- Rows in the order of their keys, as every writer locks them.
WITH told AS (
    SELECT * FROM jsonb_to_recordset(%(runs)s) AS x(
        id uuid, waiting_on jsonb, paused_at timestamptz)
), locked AS (
    SELECT r.id, t.waiting_on, t.paused_at FROM {schema}.run r JOIN told t ON t.id = r.id
    WHERE r.finished_at IS NULL
      AND (r.waiting_on IS DISTINCT FROM t.waiting_on OR r.paused_at IS DISTINCT FROM t.paused_at)
    ORDER BY r.id FOR UPDATE OF r
), noted AS (
    UPDATE {schema}.run r SET waiting_on = l.waiting_on, paused_at = l.paused_at,
        waiting_on_at = clock_timestamp()
    FROM locked l WHERE r.id = l.id
    RETURNING r.*
)
{announce noted}

-- name: mark_lost
-- At the history length that the row has, so that any later word of the run reopens it.
WITH marked AS (
    UPDATE {schema}.run SET
        status = 'lost', status_version = (status_version >> 4 << 4) | %(rank)s,
        finished_at = clock_timestamp()
    WHERE id = %(id)s AND status = 'running'
    RETURNING *
), announced AS (
    {announce marked}
)
SELECT id FROM marked

-- name: unverified_runs
-- By run_unverified_idx: closed by the word of a worker alone, oldest close first.
SELECT id, finished_at AS ordered_at, workflow_id, run_key, projected_length FROM {schema}.run
WHERE namespace = %(namespace)s AND finished_at IS NOT NULL AND run_key IS NOT NULL
  AND status_version < %(authority)s AND unverifiable_at IS NULL
  AND finished_at < now() - make_interval(secs => %(older_than)s)
  AND (finished_at, id) > (coalesce(%(after_at)s, '-infinity'::timestamptz),
                           coalesce(%(after_id)s, '00000000-0000-0000-0000-000000000000'::uuid))
ORDER BY finished_at, id
LIMIT %(limit)s

-- name: mark_unverifiable
UPDATE {schema}.run SET unverifiable_at = clock_timestamp()
WHERE id = %(id)s AND unverifiable_at IS NULL AND status_version < %(authority)s
RETURNING id
