-- Values that are encrypted anew.

-- name: page
-- The limit counts rows looked at, not rows found: a page takes no longer where nothing is left.
SELECT id, treatment, encoding, digest, key_id, state,
       CASE WHEN state IN ('sealed', 'clear') THEN data END AS data,
       CASE WHEN state = 'clear' THEN body::text END AS body
FROM (
    SELECT p.*, CASE
        WHEN key_id = %(current)s THEN 'current'
        WHEN key_id IS NOT NULL THEN 'sealed'
        WHEN treatment IN ('full', 'redacted') AND (body IS NOT NULL OR data IS NOT NULL)
        THEN 'clear' END AS state
    FROM {schema}.payload p
    WHERE id > %(after)s
    ORDER BY id
    LIMIT %(limit)s
) looked_at
ORDER BY id

-- name: write
-- A value that another rotation changed meanwhile stays as that left it.
UPDATE {schema}.payload p
SET digest = decode(x.digest, 'hex'), data = decode(x.data, 'base64'), body = NULL,
    key_id = x.key_id
FROM jsonb_to_recordset(%(rows)s::jsonb) AS x(id uuid, digest text, data text, key_id text, was text)
WHERE p.id = x.id AND p.key_id IS NOT DISTINCT FROM x.was
