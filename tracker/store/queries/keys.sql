-- name: create
INSERT INTO {schema}.api_key
    (id, name, secret_hash, scopes, expires_at, ref_types, workflow_types, rate)
VALUES (%(id)s, %(name)s, %(secret_hash)s, %(scopes)s, %(expires_at)s,
        %(ref_types)s, %(workflow_types)s, %(rate)s)

-- name: find_by_secret
SELECT id, name, scopes, created_at, revoked_at, ref_types, workflow_types, rate, previous_until,
       CASE WHEN secret_hash = %(secret_hash)s THEN expires_at
            ELSE least(expires_at, previous_until) END AS expires_at
FROM {schema}.api_key
WHERE (secret_hash = %(secret_hash)s
       OR (previous_hash = %(secret_hash)s AND previous_until > now()))
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: find_by_name
SELECT id, name, scopes, created_at, expires_at, revoked_at,
       ref_types, workflow_types, rate, previous_until
FROM {schema}.api_key
WHERE name = %(name)s

-- name: find_valid_by_name
SELECT id FROM {schema}.api_key
WHERE name = %(name)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: list_keys
SELECT id, name, scopes, created_at, expires_at, revoked_at,
       ref_types, workflow_types, rate, previous_until
FROM {schema}.api_key
ORDER BY created_at, id

-- name: rotate
-- Both sides of an assignment see the row as it was: the present secret becomes the previous one.
UPDATE {schema}.api_key
SET secret_hash = %(secret_hash)s,
    previous_hash = CASE WHEN %(grace)s::interval > interval '0' THEN secret_hash END,
    previous_until = CASE WHEN %(grace)s::interval > interval '0'
                          THEN now() + %(grace)s::interval END,
    expires_at = coalesce(%(expires_at)s::timestamptz, expires_at)
WHERE name = %(name)s AND revoked_at IS NULL
  AND (%(expires_at)s::timestamptz IS NOT NULL OR expires_at IS NULL OR expires_at > now())
RETURNING id

-- name: revoke
UPDATE {schema}.api_key SET revoked_at = coalesce(revoked_at, now())
WHERE name = %(name)s
RETURNING id, name, scopes, created_at, expires_at, revoked_at,
          ref_types, workflow_types, rate, previous_until
