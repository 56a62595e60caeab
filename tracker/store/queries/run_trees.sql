-- Runs with their steps, retries and values, a fixed number of statements for each page.

-- name: newest
SELECT r.* FROM {schema}.run r WHERE r.namespace = %(namespace)s
ORDER BY r.ordered_at DESC, r.id DESC LIMIT %(limit)s OFFSET %(offset)s

-- name: of_statuses
-- The newest of each status by its index, and of those the newest.
SELECT r.* FROM unnest(%(statuses)s::text[]) s(status)
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.run
    WHERE namespace = %(namespace)s AND status = s.status AND {sleeping}
    ORDER BY ordered_at DESC, id DESC LIMIT %(limit)s + %(offset)s
) r
ORDER BY r.ordered_at DESC, r.id DESC LIMIT %(limit)s OFFSET %(offset)s

-- name: ref_types
-- Each once, by a skip through the index.
WITH RECURSIVE found AS (
    (SELECT ref_type FROM {schema}.run_ref WHERE namespace = %(namespace)s
     ORDER BY ref_type LIMIT 1)
    UNION ALL
    SELECT (SELECT ref_type FROM {schema}.run_ref
            WHERE namespace = %(namespace)s AND ref_type > f.ref_type
            ORDER BY ref_type LIMIT 1)
    FROM found f WHERE f.ref_type IS NOT NULL
)
SELECT ref_type FROM found WHERE ref_type IS NOT NULL LIMIT 1000

-- name: of_ref
SELECT r.* FROM {schema}.run r
WHERE r.id IN (SELECT f.run_id FROM {schema}.run_ref f
               WHERE f.namespace = %(namespace)s AND f.ref_type = ANY(%(ref_types)s)
                 AND f.ref_id = %(ref_id)s)
  AND (%(statuses)s::text[] IS NULL OR r.status = ANY(%(statuses)s)) AND {sleeping}
ORDER BY r.ordered_at DESC, r.id DESC LIMIT %(limit)s OFFSET %(offset)s

-- name: of_ref_type
SELECT r.* FROM {schema}.run_ref f JOIN {schema}.run r ON r.id = f.run_id
WHERE f.namespace = %(namespace)s AND f.ref_type = ANY(%(ref_types)s)
  AND (%(statuses)s::text[] IS NULL OR r.status = ANY(%(statuses)s)) AND {sleeping}
  -- Once, whatever number of refs of this type it has.
  AND NOT EXISTS (SELECT FROM {schema}.run_ref o WHERE o.run_id = f.run_id
                  AND o.ref_type = f.ref_type AND o.ref_id < f.ref_id)
ORDER BY f.ordered_at DESC, f.run_id DESC LIMIT %(limit)s OFFSET %(offset)s

-- name: of_id
SELECT r.* FROM {schema}.run r WHERE r.namespace = %(namespace)s AND r.id = %(id)s

-- name: steps
SELECT s.* FROM unnest(%(run_keys)s::uuid[]) k(run_key)
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.step WHERE namespace = %(namespace)s AND step.run_key = k.run_key
    ORDER BY coalesce(scheduled_at, started_at, recorded_at), event_id, id LIMIT %(limit)s) s

-- name: retries
SELECT a.* FROM {schema}.attempt a
WHERE a.step_id = ANY(%(steps)s) AND a.next_retry_at IS NOT NULL
ORDER BY a.step_id, a.started_at LIMIT %(limit)s

-- name: values
SELECT id, treatment, encoding, size, digest, body::text AS body, data, key_id
FROM {schema}.payload WHERE id = ANY(%(ids)s)

-- name: step_place
-- Its number among the steps of its run, and where its output is.
SELECT t.output_id, (
    SELECT count(*) FROM {schema}.step s
    WHERE s.namespace = t.namespace AND s.run_key = t.run_key
      AND (coalesce(s.scheduled_at, s.started_at, s.recorded_at), s.id)
          <= (coalesce(t.scheduled_at, t.started_at, t.recorded_at), t.id)) AS place
FROM {schema}.step t WHERE t.id = %(id)s
