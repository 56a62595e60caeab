-- Who did what to which run, and what came of it. Never updated, never deleted by us.

-- name: record_action
INSERT INTO {schema}.audit (id, namespace, actor, action, run_id, reason, outcome, details)
VALUES (%(id)s, %(namespace)s, %(actor)s, %(action)s, %(run_id)s, %(reason)s, %(outcome)s,
        %(details)s::jsonb)

-- name: list_actions
-- Walked along the index of its actor, of its run, or of all.
SELECT id, at, actor, action, run_id, reason, outcome, details FROM {schema}.audit
WHERE namespace = %(namespace)s
  AND (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(run_id)s::uuid IS NULL OR run_id = %(run_id)s)
  AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
  AND at >= coalesce(%(after)s, '-infinity'::timestamptz)
  AND at < coalesce(%(before)s, 'infinity'::timestamptz)
  AND (at, id) < (coalesce(%(after_at)s, 'infinity'::timestamptz), %(after_id)s::uuid)
ORDER BY at DESC, id DESC LIMIT %(limit)s

-- name: actions_of_run
SELECT at, actor, action, reason, outcome, details FROM {schema}.audit
WHERE run_id = %(run_id)s ORDER BY at, id LIMIT %(limit)s
