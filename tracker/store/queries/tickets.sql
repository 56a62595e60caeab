-- Tickets: each opens one live connection for a caller that can send no headers.

-- name: issue
INSERT INTO {schema}.ticket (secret_hash, caller, expires_at)
VALUES (%(secret_hash)s, %(caller)s, now() + make_interval(secs => %(seconds)s))
RETURNING expires_at

-- name: redeem
DELETE FROM {schema}.ticket WHERE secret_hash = %(secret_hash)s
RETURNING caller, expires_at > now() AS valid
