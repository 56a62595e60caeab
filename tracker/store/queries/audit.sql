-- Who did what to which run, and what came of it. Never updated, never deleted by us.

-- name: record_action
INSERT INTO {schema}.audit (id, namespace, actor, action, run_id, reason, outcome, details)
VALUES (%(id)s, %(namespace)s, %(actor)s, %(action)s, %(run_id)s, %(reason)s, %(outcome)s,
        %(details)s::jsonb)

-- name: actions_of_run
SELECT at, actor, action, reason, outcome, details FROM {schema}.audit
WHERE run_id = %(run_id)s ORDER BY at, id LIMIT %(limit)s
