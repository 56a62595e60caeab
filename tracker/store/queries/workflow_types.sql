-- What can be started, by name or alias.

-- name: find_type
-- The exact name wins over another type's alias; of several types with one alias, the one whose
-- worker came last.
SELECT name, task_queue, input_schema
FROM {schema}.workflow_type
WHERE namespace = %(namespace)s AND (name = %(asked)s OR %(asked)s = ANY(aliases))
  -- Without one it is known of externally driven runs alone.
  AND task_queue IS NOT NULL
ORDER BY name = %(asked)s DESC, registered_at DESC NULLS LAST, name
LIMIT 1

-- name: known_names
SELECT name, aliases FROM {schema}.workflow_type WHERE namespace = %(namespace)s LIMIT 10000
