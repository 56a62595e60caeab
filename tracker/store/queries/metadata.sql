-- Metadata that people change; see core.metadata.

-- name: patch_metadata
-- An erased run is returned as it is.
WITH patched AS (
UPDATE {schema}.run r SET
    metadata_patch = CASE WHEN r.erased_at IS NULL
        THEN coalesce(r.metadata_patch, '{}') || CAST(%(patch)s AS jsonb) END,
    metadata = CASE WHEN r.erased_at IS NULL
        THEN (coalesce(r.metadata, '{}') || CAST(%(patch)s AS jsonb)) - ARRAY(
            SELECT key FROM jsonb_each(CAST(%(patch)s AS jsonb)) WHERE value = 'null') END
WHERE r.id = %(run_id)s
RETURNING r.*
),
announced AS (
    {announce patched}
)
SELECT * FROM patched

-- name: drop_labels
DELETE FROM {schema}.run_label WHERE run_id = %(run_id)s

-- name: write_labels
INSERT INTO {schema}.run_label (run_id, key, value, namespace, ordered_at)
SELECT r.id, e.key, e.value #>> '{}', r.namespace, r.ordered_at
FROM {schema}.run r, jsonb_each(r.metadata) e
WHERE r.id = %(run_id)s
  AND jsonb_typeof(e.value) IN ('string', 'number', 'boolean')
  AND length(e.value #>> '{}') <= %(label_max)s AND length(e.key) <= %(label_max)s
