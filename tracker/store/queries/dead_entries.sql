-- Entries of the outbox that are given up, and what people do about them.

-- name: bury
UPDATE {schema}.outbox
SET dead_at = now(), leased_until = 'infinity', last_error = %(error)s
WHERE id = %(id)s AND tries = %(tries)s AND dead_at IS NULL
RETURNING id

-- name: fail
UPDATE {schema}.outbox SET
    failures = failures + 1, last_error = %(error)s,
    leased_until = CASE WHEN failures + 1 >= %(most)s THEN 'infinity'
                        ELSE now() + make_interval(secs => %(delay)s) END,
    dead_at = CASE WHEN failures + 1 >= %(most)s THEN now() END
WHERE id = %(id)s AND tries = %(tries)s AND dead_at IS NULL
RETURNING dead_at IS NOT NULL AS dead

-- name: awaken_next
-- The entry is dead: what waited for it waits no more.
UPDATE {schema}.outbox o SET leased_until = now() FROM {schema}.outbox g
WHERE g.id = %(id)s AND g.kind = 'signal' AND o.tries = 0 AND o.dead_at IS NULL AND o.id = (
    SELECT id FROM {schema}.outbox n
    WHERE n.run_id = g.run_id AND (n.created_at, n.id) > (g.created_at, g.id)
      AND n.kind = 'signal' AND n.dead_at IS NULL
    ORDER BY n.created_at, n.id LIMIT 1)

-- name: list_entries
SELECT id, kind, run_id, created_at, tries, failures, last_error, dead_at,
       CASE WHEN dead_at IS NULL THEN leased_until END AS due_at
FROM {schema}.outbox WHERE namespace = %(namespace)s
ORDER BY leased_until LIMIT %(limit)s

-- name: list_dead
SELECT id, kind, run_id, created_at, tries, failures, last_error, dead_at,
       CASE WHEN dead_at IS NULL THEN leased_until END AS due_at
FROM {schema}.outbox WHERE namespace = %(namespace)s AND dead_at IS NOT NULL
ORDER BY dead_at, id LIMIT %(limit)s

-- name: entries_of_run
SELECT id, kind, run_id, created_at, tries, failures, last_error, dead_at,
       CASE WHEN dead_at IS NULL THEN leased_until END AS due_at
FROM {schema}.outbox WHERE run_id = %(run_id)s
ORDER BY created_at, id LIMIT %(limit)s

-- name: get_entry
SELECT id, kind, run_id, created_at, tries, failures, last_error, dead_at,
       CASE WHEN dead_at IS NULL THEN leased_until END AS due_at
FROM {schema}.outbox WHERE namespace = %(namespace)s AND id = %(id)s

-- name: revive
UPDATE {schema}.outbox SET dead_at = NULL, failures = 0, leased_until = now()
WHERE namespace = %(namespace)s AND id = %(id)s AND dead_at IS NOT NULL
RETURNING id

-- name: drop_signal
DELETE FROM {schema}.outbox
WHERE namespace = %(namespace)s AND id = %(id)s AND kind = 'signal' AND dead_at IS NOT NULL
RETURNING id
