-- Workflows: identity from `workflow`, everything that changes from `run`, by index.

-- name: page_of_workflows
-- {workflows} and {runs} are filled in by tracker.store.workflows; each is read along an index.
SELECT w.id, w.workflow_type, w.ref_type, w.ref_id, w.metadata, w.created_at,
       oldest.input_id AS first_input_id, latest.id AS latest_run_id,
       latest.status AS latest_status, latest.ordered_at AS latest_ordered_at,
       latest.output_id AS latest_output_id, counted.runs_count
FROM {workflows} w
LEFT JOIN LATERAL ({latest}) latest ON true
LEFT JOIN LATERAL ({oldest}) oldest ON true
CROSS JOIN LATERAL (SELECT {count} AS runs_count) counted
ORDER BY w.created_at DESC, w.id DESC

-- name: list_workflow_types
SELECT name, aliases, task_queue, input_schema, registered_at, first_seen_at
FROM {schema}.workflow_type
WHERE namespace = %(namespace)s
ORDER BY name
LIMIT %(limit)s
