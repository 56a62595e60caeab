-- Workflows: identity from `workflow`, everything that changes from `run`, by index.

-- name: page_of_workflows
-- {source} is one of those in tracker.store.workflows, each along an index. Two branches wherever a workflow
-- may have no ref, since `=` finds no NULL and IS NOT DISTINCT FROM no index.
WITH page AS (
    SELECT w.* FROM {source} w
    ORDER BY w.created_at DESC, w.id DESC
    LIMIT %(limit)s
)
SELECT w.id, w.workflow_type, w.ref_type, w.ref_id, w.metadata, w.created_at,
       oldest.input_id AS first_input_id, latest.id AS latest_run_id,
       latest.status AS latest_status, latest.ordered_at AS latest_ordered_at,
       latest.output_id AS latest_output_id, counted.runs_count
FROM page w
LEFT JOIN LATERAL (
    (SELECT r.id, r.status, r.ordered_at, r.output_id FROM {schema}.run r
     WHERE r.namespace = w.namespace AND r.workflow_type = w.workflow_type
       AND r.ref_type = w.ref_type AND r.ref_id = w.ref_id
     ORDER BY r.ordered_at DESC, r.id DESC LIMIT 1)
    UNION ALL
    (SELECT r.id, r.status, r.ordered_at, r.output_id FROM {schema}.run r
     WHERE w.ref_type IS NULL AND r.namespace = w.namespace
       AND r.workflow_type = w.workflow_type AND r.ref_type IS NULL AND r.ref_id IS NULL
     ORDER BY r.ref_type DESC, r.ref_id DESC, r.ordered_at DESC, r.id DESC LIMIT 1)
) latest ON true
LEFT JOIN LATERAL (
    (SELECT r.input_id FROM {schema}.run r
     WHERE r.namespace = w.namespace AND r.workflow_type = w.workflow_type
       AND r.ref_type = w.ref_type AND r.ref_id = w.ref_id
     ORDER BY r.ordered_at, r.id LIMIT 1)
    UNION ALL
    (SELECT r.input_id FROM {schema}.run r
     WHERE w.ref_type IS NULL AND r.namespace = w.namespace
       AND r.workflow_type = w.workflow_type AND r.ref_type IS NULL AND r.ref_id IS NULL
     ORDER BY r.ref_type, r.ref_id, r.ordered_at, r.id LIMIT 1)
) oldest ON true
CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM {schema}.run r
            WHERE r.namespace = w.namespace AND r.workflow_type = w.workflow_type
              AND r.ref_type = w.ref_type AND r.ref_id = w.ref_id)
         + (SELECT count(*) FROM {schema}.run r
            WHERE w.ref_type IS NULL AND r.namespace = w.namespace
              AND r.workflow_type = w.workflow_type AND r.ref_type IS NULL AND r.ref_id IS NULL)
           AS runs_count
) counted
ORDER BY w.created_at DESC, w.id DESC

-- name: list_workflow_types
SELECT name, aliases, task_queue, input_schema, registered_at, first_seen_at
FROM {schema}.workflow_type
WHERE namespace = %(namespace)s
ORDER BY name
LIMIT %(limit)s
