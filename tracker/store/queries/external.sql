-- Externally driven runs, as their owners report them.

-- name: lock
-- One report of a run at a time, also of one that is not on record yet.
SELECT pg_advisory_xact_lock(hashtextextended('flowtrail.external:' || %(id)s::text, 0))

-- name: known
-- Found by Temporal's id too, so that a report of a run of Temporal's is refused as such.
SELECT clock_timestamp() AS at, r.id, r.engine, r.status, r.status_version, r.workflow_type,
       r.workflow_id, r.ref_type, r.ref_id, r.namespace, r.finished_at, r.waiting_on,
       r.erased_at IS NOT NULL AS erased
FROM (SELECT %(id)s::uuid AS id) asked
LEFT JOIN LATERAL (
    SELECT * FROM {schema}.run WHERE id = asked.id
    UNION ALL
    SELECT * FROM {schema}.run
    WHERE namespace = %(namespace)s AND run_key = asked.id AND id <> asked.id
    LIMIT 1) r ON true

-- name: known_step
SELECT status, coalesce(attempts, 0) AS attempts, last_started_at
FROM {schema}.step WHERE id = %(id)s

-- name: set_waiting
WITH noted AS (
    UPDATE {schema}.run SET waiting_on = %(waiting_on)s, waiting_on_at = clock_timestamp()
    WHERE id = %(id)s AND waiting_on IS DISTINCT FROM %(waiting_on)s
    RETURNING *
)
{announce noted}

-- name: workflow_between
-- Workflows whose id begins with a number; see `store.external_runs.workflow_number`.
SELECT id, workflow_type, ref_type, ref_id FROM {schema}.workflow
WHERE id >= %(low)s AND id <= %(high)s AND namespace = %(namespace)s
LIMIT 2

-- name: workflow_ids
SELECT w.id, w.workflow_type, w.ref_type, w.ref_id
FROM jsonb_to_recordset(%(asked)s) AS x(workflow_type text, ref_type text, ref_id text)
JOIN {schema}.workflow w
  ON w.namespace = %(namespace)s AND w.workflow_type = x.workflow_type
 AND (w.ref_type, w.ref_id) IS NOT DISTINCT FROM (x.ref_type, x.ref_id)
