-- Task queues by name.

-- name: known_queues
-- Of announced types; of runs, by hopping along run_queue_idx from name to name; of the steps of
-- the latest runs, for queues that only activities use.
WITH RECURSIVE of_run(task_queue) AS (
    (SELECT task_queue FROM {schema}.run
     WHERE namespace = %(namespace)s AND task_queue IS NOT NULL
     ORDER BY task_queue LIMIT 1)
    UNION ALL
    SELECT (SELECT r.task_queue FROM {schema}.run r
            WHERE r.namespace = %(namespace)s AND r.task_queue > q.task_queue
            ORDER BY r.task_queue LIMIT 1)
    FROM of_run q WHERE q.task_queue IS NOT NULL
), of_step AS (
    SELECT s.task_queue
    FROM (SELECT run_key FROM {schema}.run
          WHERE namespace = %(namespace)s AND run_key IS NOT NULL
          ORDER BY ordered_at DESC, id DESC LIMIT %(runs)s) latest
    JOIN {schema}.step s ON s.namespace = %(namespace)s AND s.run_key = latest.run_key
), known AS (
    (SELECT task_queue FROM {schema}.workflow_type WHERE namespace = %(namespace)s LIMIT 10000)
    UNION (SELECT task_queue FROM of_run LIMIT %(limit)s)
    UNION SELECT task_queue FROM of_step
)
SELECT task_queue FROM known WHERE task_queue IS NOT NULL ORDER BY task_queue LIMIT %(limit)s
