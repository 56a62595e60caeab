-- Taking in signals, inside callers' transactions: reading, and one insert. Ids go in as text, so
-- that every driver a caller may use can pass them.

-- name: by_run
-- By our id or Temporal's run id.
SELECT r.id, r.workflow_id FROM {schema}.run r
WHERE r.id = CAST(%(run_id)s AS uuid) AND r.namespace = %(namespace)s
UNION ALL
SELECT r.id, r.workflow_id FROM {schema}.run r
WHERE r.run_key = CAST(%(run_id)s AS uuid) AND r.namespace = %(namespace)s
LIMIT 1

-- name: by_ref
SELECT r.id, r.workflow_id FROM {schema}.run r
WHERE r.namespace = %(namespace)s AND r.workflow_type = %(workflow_type)s
  AND r.ref_type = %(ref_type)s AND r.ref_id = %(ref_id)s
ORDER BY r.ordered_at DESC, r.id DESC LIMIT 1

-- name: by_workflow_id
-- Only a run that Temporal may not know yet: of others Temporal knows best who has the id.
SELECT l.id, l.workflow_id FROM (
    SELECT r.id, r.workflow_id, r.status FROM {schema}.run r
    WHERE r.namespace = %(namespace)s AND r.workflow_id = %(workflow_id)s
    ORDER BY r.ordered_at DESC, r.id DESC LIMIT 1
) l
WHERE l.status = 'accepted'

-- name: insert_signal
WITH given AS MATERIALIZED (
    SELECT CAST(%(signal)s AS jsonb) AS j, clock_timestamp() AS at
),
inserted AS (
    INSERT INTO {schema}.outbox (id, kind, namespace, run_id, request, created_at, leased_until)
    SELECT (j->>'id')::uuid, 'signal', j->>'namespace', (j->>'run_id')::uuid,
           decode(j->>'request', 'base64'), at, at
    FROM given
)
SELECT at FROM given
