-- The live feed: giving announced changes their place in the order, and reading them.

-- name: look
SELECT EXISTS (SELECT FROM {schema}.change_pending WHERE id > %(above)s) AS found

-- name: sequence
-- Only the session that holds the sequencer's lock runs this, so one round commits before the next
-- begins, and whoever reads up to a seq has read everything before it. Nothing is looked at by
-- transaction id: an open transaction anywhere holds nothing up, and what it announced gets its
-- place once it commits. A step whose run is not on record yet is left for some seconds. What the
-- same runs announced further back, and what has become visible since, comes along, so that no run's
-- changes change places. Written so that only lookups by key remain, for statistics of a table that
-- is emptied all the time say nothing (ARRAY, LATERAL and LIMIT keep hashes away).
WITH fresh AS MATERIALIZED (
    SELECT p.id, p.run_id, p.run_key FROM {schema}.change_pending p
    WHERE p.id > %(above)s
      AND (p.kind = 'run' OR p.at < clock_timestamp() - make_interval(secs => %(patience)s)
           OR (SELECT true FROM {schema}.run r
               WHERE r.namespace = p.namespace AND r.run_key = p.run_key LIMIT 1))
    ORDER BY p.id LIMIT %(limit)s
),
taken AS (
    DELETE FROM {schema}.change_pending WHERE id = ANY(ARRAY(
        SELECT id FROM fresh
        UNION ALL
        SELECT e.id FROM (SELECT DISTINCT run_id FROM fresh) f
        CROSS JOIN LATERAL (SELECT p.id FROM {schema}.change_pending p
                            WHERE p.run_id = f.run_id AND p.id <= %(above)s OFFSET 0) e
        UNION ALL
        SELECT e.id FROM (SELECT DISTINCT run_key FROM fresh) f
        CROSS JOIN LATERAL (SELECT p.id FROM {schema}.change_pending p
                            WHERE p.run_key = f.run_key AND p.id <= %(above)s OFFSET 0) e))
    RETURNING *
),
moved AS (
    INSERT INTO {schema}.change (
        seq, pending_id, namespace, kind, run_id, run_key, workflow_type, ref_type, ref_id,
        refs, status, at, data, report)
    SELECT f.last_seq + row_number() OVER (ORDER BY t.id), t.id, t.namespace, t.kind,
           coalesce(t.run_id, r.id), coalesce(t.run_key, r.run_key),
           coalesce(t.data->>'workflow_type', r.workflow_type),
           CASE WHEN t.kind = 'run' THEN t.data->>'ref_type' ELSE r.ref_type END,
           CASE WHEN t.kind = 'run' THEN t.data->>'ref_id' ELSE r.ref_id END,
           o.refs, t.status, t.at, t.data, t.report
    FROM taken t
    JOIN {schema}.feed f ON f.id = 1
    LEFT JOIN LATERAL (
        SELECT id, run_key, workflow_type, ref_type, ref_id FROM {schema}.run
        WHERE t.kind = 'step' AND namespace = t.namespace AND run_key = t.run_key LIMIT 1) r ON true
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(x.ref_type, x.ref_id)) AS refs
        FROM (SELECT ref_type, ref_id FROM {schema}.run_ref
              WHERE run_id = coalesce(t.run_id, r.id) LIMIT 100) x) o ON true
    RETURNING seq, pending_id
),
counted AS (
    UPDATE {schema}.feed SET last_seq = last_seq + (SELECT count(*) FROM moved)
    WHERE id = 1 AND EXISTS (SELECT FROM moved)
    RETURNING last_seq
)
SELECT count(*) AS moved, max(pending_id) AS highest,
       (SELECT pg_notify(%(channel)s, '') FROM counted) IS NULL AS quiet
FROM moved

-- name: forget
-- Oldest first, a slice at a time; what is kept lies behind one seq. Erasing leaves holes.
WITH next AS (
    SELECT c.seq, c.sequenced_at FROM {schema}.change c
    WHERE c.seq > (SELECT kept_after FROM {schema}.feed WHERE id = 1) ORDER BY c.seq LIMIT %(limit)s
),
old AS (
    SELECT max(seq) AS seq FROM next
    WHERE sequenced_at < clock_timestamp() - make_interval(secs => %(seconds)s)
),
gone AS (
    DELETE FROM {schema}.change
    WHERE seq > (SELECT kept_after FROM {schema}.feed WHERE id = 1) AND seq <= (SELECT seq FROM old)
    RETURNING seq
),
noted AS (
    UPDATE {schema}.feed SET kept_after = old.seq FROM old
    WHERE id = 1 AND old.seq IS NOT NULL
)
SELECT count(*) AS forgotten FROM gone

-- name: forget_tickets
DELETE FROM {schema}.ticket WHERE expires_at < now()

-- name: position
SELECT last_seq, kept_after FROM {schema}.feed WHERE id = 1

-- name: pending
-- What a snapshot already shows, though it gets its place in the order only later.
SELECT id FROM {schema}.change_pending
WHERE namespace = %(namespace)s
  AND CASE kind WHEN 'run' THEN run_id = ANY(%(runs)s) ELSE run_key = %(steps_of)s END

-- name: changes_after
SELECT {columns} FROM {schema}.change c
WHERE c.seq > %(after)s ORDER BY c.seq LIMIT %(limit)s

-- name: window
-- The changes of a slice of the order that may pass a filter.
SELECT {columns} FROM {schema}.change c
WHERE c.seq > %(after)s AND c.seq <= %(through)s AND c.namespace = %(namespace)s
  -- Finds more than is asked for (an array contains another in whatever order): read on.
  AND (%(ref)s::jsonb IS NULL OR c.refs @> %(ref)s::jsonb)
  AND (%(types)s::text[] IS NULL OR c.workflow_type = ANY(%(types)s))
  AND (%(statuses)s::text[] IS NULL OR c.status = ANY(%(statuses)s))
  AND (%(kinds)s::text[] IS NULL OR c.kind = ANY(%(kinds)s))
ORDER BY c.seq LIMIT %(limit)s

-- name: run_window
-- As `window` of one run, by its index, over all that is kept.
SELECT {columns} FROM {schema}.change c
WHERE c.run_id = %(run_id)s AND c.seq > %(after)s AND c.seq <= %(through)s
ORDER BY c.seq LIMIT %(limit)s
