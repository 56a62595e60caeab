-- Reading runs, steps, attempts and payloads.

-- name: get_run
-- By our id or Temporal's run id; at most one row, since neither is ever drawn twice.
SELECT r.* FROM {schema}.run r
WHERE r.id = %(run_id)s AND r.namespace = %(namespace)s
UNION ALL
SELECT r.* FROM {schema}.run r
WHERE r.run_key = %(run_id)s AND r.namespace = %(namespace)s
LIMIT 1

-- name: is_run_within
SELECT FROM {schema}.run r
WHERE r.namespace = %(namespace)s AND (r.id = %(run_id)s OR r.run_key = %(run_id)s)
  AND (%(workflow_types)s::text[] IS NULL OR r.workflow_type = ANY (%(workflow_types)s::text[]))
  AND (%(ref_types)s::text[] IS NULL OR EXISTS (
      SELECT FROM {schema}.run_ref o
      WHERE o.run_id = r.id AND o.ref_type = ANY (%(ref_types)s::text[])))

-- name: get_refs
SELECT ref_type, ref_id FROM {schema}.run_ref
WHERE run_id = %(run_id)s
ORDER BY ref_type, ref_id
LIMIT %(limit)s

-- name: get_payloads
-- Text, not jsonb: the driver's parser gives up on integers of thousands of digits.
SELECT id, treatment, encoding, size, digest, body::text AS body, data, key_id
FROM {schema}.payload
WHERE id = ANY(%(ids)s)

-- name: get_steps
SELECT s.* FROM {schema}.step s
WHERE s.namespace = %(namespace)s AND s.run_key = %(run_key)s
ORDER BY coalesce(s.scheduled_at, s.started_at, s.recorded_at), s.event_id, s.id
LIMIT %(limit)s

-- name: get_step
SELECT s.* FROM {schema}.step s
WHERE s.id = %(step_id)s AND s.namespace = %(namespace)s AND s.run_key = %(run_key)s

-- name: get_attempts
-- The latest of each step, in the order of the steps until the limit is full.
SELECT a.*
FROM unnest(%(steps)s::uuid[]) AS s(step_id)
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.attempt
    WHERE attempt.step_id = s.step_id
    ORDER BY started_at DESC, number DESC, id
    LIMIT %(per_step)s
) a
LIMIT %(limit)s
