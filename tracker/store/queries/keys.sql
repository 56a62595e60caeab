-- name: create
INSERT INTO {schema}.api_key (id, name, secret_hash, scopes, expires_at)
VALUES (%(id)s, %(name)s, %(secret_hash)s, %(scopes)s, %(expires_at)s)

-- name: find_by_secret
SELECT id, name, scopes, created_at, expires_at, revoked_at
FROM {schema}.api_key
WHERE secret_hash = %(secret_hash)s
  AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: list_keys
SELECT id, name, scopes, created_at, expires_at, revoked_at
FROM {schema}.api_key
ORDER BY created_at, id

-- name: revoke
UPDATE {schema}.api_key SET revoked_at = coalesce(revoked_at, now())
WHERE name = %(name)s
RETURNING id, name, scopes, created_at, expires_at, revoked_at
