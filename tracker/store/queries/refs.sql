-- name: candidates
-- Input as text: not every jsonb is a value that Python reads.
SELECT r.id, r.workflow_type, r.workflow_id, r.ordered_at,
       r.ref_type, r.ref_id, r.ref_version,
       CASE WHEN p.treatment = 'full' THEN p.body::text END AS input
FROM {schema}.run r
LEFT JOIN {schema}.payload p ON p.id = r.input_id
WHERE r.namespace = %(namespace)s
  AND (r.ref_version IS NULL OR r.ref_version <= %(rule)s)
  AND (%(after_at)s::timestamptz IS NULL
       OR (r.ordered_at, r.id) < (%(after_at)s::timestamptz, %(after_id)s::uuid))
ORDER BY r.ordered_at DESC, r.id DESC
LIMIT %(limit)s

-- name: set_from_rules
-- Locks runs in the order of their ids, as every writer does. A link that an earlier rule gave goes
-- with its rule; one that a workflow set stays.
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(refs)s::jsonb) AS x(id uuid, ref_type text, ref_id text)
),
locked AS (
    SELECT r.id, r.ref_version AS old_version, r.ref_type AS old_type, r.ref_id AS old_id,
           g.ref_type, g.ref_id
    FROM {schema}.run r JOIN given g ON g.id = r.id
    WHERE (r.ref_version IS NULL OR r.ref_version <= %(rule)s)
      AND (r.ref_type, r.ref_id) IS DISTINCT FROM (g.ref_type, g.ref_id)
    ORDER BY r.id
    FOR UPDATE OF r
),
changed AS (
    UPDATE {schema}.run r
    SET ref_version = %(rule)s, ref_type = l.ref_type, ref_id = l.ref_id
    FROM locked l
    WHERE r.id = l.id
    RETURNING r.*, l.old_version, l.old_type, l.old_id
),
announced AS (
    {announce changed}
),
unlinked AS (
    DELETE FROM {schema}.run_ref o USING changed c
    WHERE c.old_version = %(rule)s
      AND o.run_id = c.id AND o.ref_type = c.old_type AND o.ref_id = c.old_id
    RETURNING 1
),
linked AS (
    INSERT INTO {schema}.run_ref (run_id, namespace, ref_type, ref_id, ordered_at)
    SELECT id, namespace, ref_type, ref_id, ordered_at FROM changed
    ON CONFLICT (run_id, ref_type, ref_id) DO NOTHING
    RETURNING 1
),
workflows AS (
    INSERT INTO {schema}.workflow (
        namespace, workflow_type, ref_type, ref_id, metadata, created_at)
    SELECT DISTINCT ON (namespace, workflow_type, ref_type, ref_id)
           namespace, workflow_type, ref_type, ref_id, metadata, ordered_at
    FROM changed
    ORDER BY namespace, workflow_type, ref_type, ref_id, ordered_at
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM changed) AS changed,
       (SELECT count(*) FROM unlinked), (SELECT count(*) FROM linked),
       (SELECT count(*) FROM workflows)
