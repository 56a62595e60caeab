-- What `verify` reads. The three scans give the same columns: open runs by run_status_idx, closed
-- ones by run_finished_idx, those of a ref by run_ref_idx.

-- name: open_runs
SELECT r.id, r.run_key, r.workflow_id, r.workflow_type, r.ref_type, r.ref_id, r.status,
       r.status_version, r.projected_length, r.erased_at IS NOT NULL AS erased,
       r.ordered_at AS position
FROM {schema}.run r
WHERE r.namespace = %(namespace)s AND r.status = 'running'
  AND r.engine = 'temporal' AND r.run_key IS NOT NULL
  AND (r.ordered_at, r.id) > (%(after_at)s, %(after_id)s)
  AND (%(types)s::text[] IS NULL OR r.workflow_type = ANY(%(types)s))
  AND (hashtextextended(r.id::text, %(seed)s) & 65535) < %(share)s * 65536
ORDER BY r.ordered_at, r.id
LIMIT %(limit)s

-- name: closed_runs
SELECT r.id, r.run_key, r.workflow_id, r.workflow_type, r.ref_type, r.ref_id, r.status,
       r.status_version, r.projected_length, r.erased_at IS NOT NULL AS erased,
       r.finished_at AS position
FROM {schema}.run r
WHERE r.namespace = %(namespace)s AND r.finished_at >= %(since)s AND r.finished_at < %(until)s
  AND r.engine = 'temporal' AND r.run_key IS NOT NULL
  AND (r.finished_at, r.id) > (%(after_at)s, %(after_id)s)
  AND (%(types)s::text[] IS NULL OR r.workflow_type = ANY(%(types)s))
  AND (hashtextextended(r.id::text, %(seed)s) & 65535) < %(share)s * 65536
ORDER BY r.finished_at, r.id
LIMIT %(limit)s

-- name: ref_runs
SELECT r.id, r.run_key, r.workflow_id, r.workflow_type, r.ref_type, r.ref_id, r.status,
       r.status_version, r.projected_length, r.erased_at IS NOT NULL AS erased,
       f.ordered_at AS position
FROM {schema}.run_ref f JOIN {schema}.run r ON r.id = f.run_id
WHERE f.namespace = %(namespace)s AND f.ref_type = %(ref_type)s AND f.ref_id = %(ref_id)s
  AND (f.ordered_at, f.run_id) > (%(after_at)s, %(after_id)s)
  AND r.engine = 'temporal' AND r.run_key IS NOT NULL
  AND (r.finished_at IS NULL OR r.finished_at >= %(since)s)
  AND (%(types)s::text[] IS NULL OR r.workflow_type = ANY(%(types)s))
  AND (hashtextextended(r.id::text, %(seed)s) & 65535) < %(share)s * 65536
ORDER BY f.ordered_at, f.run_id
LIMIT %(limit)s

-- name: count_runs
SELECT count(*) AS runs FROM (
    SELECT FROM {schema}.run r
    WHERE r.namespace = %(namespace)s AND r.engine = 'temporal' AND r.run_key IS NOT NULL
      AND (r.finished_at IS NULL OR (r.finished_at >= %(since)s AND r.finished_at < %(until)s))
      AND (%(types)s::text[] IS NULL OR r.workflow_type = ANY(%(types)s))
      AND (%(ref_type)s::text IS NULL OR r.id IN (
          SELECT run_id FROM {schema}.run_ref
          WHERE namespace = %(namespace)s AND ref_type = %(ref_type)s AND ref_id = %(ref_id)s))
      AND (hashtextextended(r.id::text, %(seed)s) & 65535) < %(share)s * 65536
    LIMIT %(limit)s) AS counted

-- name: runs
SELECT * FROM {schema}.run WHERE id = ANY(%(ids)s)

-- name: steps
SELECT * FROM {schema}.step WHERE namespace = %(namespace)s AND run_key = ANY(%(run_keys)s)

-- name: attempts
SELECT a.*, s.run_key FROM {schema}.attempt a JOIN {schema}.step s ON s.id = a.step_id
WHERE s.namespace = %(namespace)s AND s.run_key = ANY(%(run_keys)s)

-- name: payloads
SELECT id, digest, size FROM {schema}.payload WHERE id = ANY(%(ids)s)

-- name: refs
SELECT run_id, ref_type, ref_id FROM {schema}.run_ref WHERE run_id = ANY(%(ids)s)

-- name: payload_horizon
SELECT max(dropped_before) AS dropped_before FROM {schema}.payload_horizon

-- name: beginning
SELECT clock_timestamp() AS now,
       (SELECT min(ordered_at) FROM {schema}.run WHERE namespace = %(namespace)s) AS first_run
