-- Looking across runs. Every source is capped: what is aggregated are at most so many of the latest
-- rows of a window, whatever the tables hold.

-- name: failed_steps
-- {source} f is step_failure, or a part of it; {conditions} are those of the filter, on f.
SELECT f.step_id, f.run_key AS temporal_run_id, f.kind, f.name, f.status, f.attempts,
       f.error_type, f.error_message, f.build_id, f.first_at AS first_failed_at,
       f.seen_at AS failed_at, f.fingerprint AS failure,
       coalesce(f.workflow_type, r.workflow_type) AS workflow_type,
       r.id AS run_id, r.ref_type, r.ref_id, s.next_retry_at
FROM (
    SELECT f.* FROM {source}
    WHERE {conditions}
    ORDER BY f.seen_at DESC, f.step_id DESC LIMIT %(limit)s
) f
LEFT JOIN {schema}.run r ON r.namespace = f.namespace AND r.run_key = f.run_key
LEFT JOIN {schema}.step s ON s.id = f.step_id
ORDER BY f.seen_at DESC, f.step_id DESC

-- name: probe_words
-- How many of the latest failures have the words.
SELECT count(*) FILTER (WHERE words @@ websearch_to_tsquery('simple', %(error_text)s)) AS found
FROM (
    SELECT f.words FROM {source}
    WHERE {conditions}
    ORDER BY f.seen_at DESC, f.step_id DESC LIMIT %(probe)s
) latest

-- name: failures
-- At least one row, which tells of the sample; without groups its other columns are empty.
WITH sampled AS MATERIALIZED (
    SELECT f.* FROM {source}
    WHERE {conditions}
    ORDER BY f.seen_at DESC, f.step_id DESC LIMIT %(sample)s
),
grouped AS (
    SELECT fingerprint, count(*) AS steps, count(DISTINCT run_key) AS runs,
           count(*) FILTER (WHERE status IN ('failed', 'timed_out')) AS failed,
           count(*) FILTER (WHERE status IN ('scheduled', 'started')) AS retrying,
           count(*) FILTER (WHERE status = 'completed') AS recovered,
           min(first_at) AS first_failed_at, max(seen_at) AS failed_at,
           array_remove(array_agg(DISTINCT workflow_type), NULL) AS workflow_types,
           array_remove(array_agg(DISTINCT build_id), NULL) AS build_ids,
           (array_agg(step_id ORDER BY seen_at DESC, step_id DESC))[1] AS latest
    FROM sampled GROUP BY fingerprint
    ORDER BY steps DESC, failed_at DESC LIMIT %(limit)s
)
SELECT t.sampled, t.earliest, now() AS now, g.fingerprint AS failure, l.error_type,
       l.error_message AS message, l.name, l.kind, g.steps, g.runs, g.failed, g.retrying,
       g.recovered, g.first_failed_at, g.failed_at, g.workflow_types,
       g.build_ids[1:20] AS build_ids
FROM (SELECT count(*) AS sampled, min(seen_at) AS earliest FROM sampled) t
LEFT JOIN grouped g ON true
LEFT JOIN sampled l ON l.step_id = g.latest
ORDER BY g.steps DESC, g.failed_at DESC

-- name: ended_runs
-- Of all types: the latest ends of the window.
SELECT workflow_type, run_key, status, started_at, finished_at FROM {schema}.run
WHERE namespace = %(namespace)s AND finished_at >= now() - make_interval(secs => %(window)s)
ORDER BY finished_at DESC, id DESC LIMIT %(sample)s

-- name: ended_runs_of_type
-- Along the index of each status, by the time of their start: ends have none per type.
SELECT workflow_type, run_key, status, started_at, finished_at
FROM unnest(%(ended)s::text[]) AS v(ended)
CROSS JOIN LATERAL (
    SELECT r.* FROM {schema}.run r
    WHERE r.namespace = %(namespace)s AND r.workflow_type = %(workflow_type)s
      AND r.status = v.ended
    ORDER BY r.ordered_at DESC, r.id DESC LIMIT %(sample)s
) r
WHERE r.finished_at >= now() - make_interval(secs => %(window)s)
ORDER BY finished_at DESC LIMIT %(sample)s

-- name: type_stats
WITH ended AS MATERIALIZED ({ended})
SELECT workflow_type, count(*) AS runs,
       count(*) FILTER (WHERE status IN ('failed', 'timed_out')) AS failed,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
           ORDER BY extract(epoch FROM finished_at - started_at)) AS duration,
       min(finished_at) AS earliest
FROM ended GROUP BY workflow_type ORDER BY runs DESC, workflow_type

-- name: step_stats
WITH ended AS MATERIALIZED ({ended}),
timed AS (
    SELECT e.workflow_type, s.name, s.kind, s.status, coalesce(s.attempts, 1) AS attempts,
           extract(epoch FROM s.finished_at - coalesce(s.scheduled_at, s.started_at)) AS duration,
           extract(epoch FROM s.started_at - s.scheduled_at) AS queue,
           CASE WHEN s.kind IN ('activity', 'local_activity') THEN coalesce(
               (SELECT sum(extract(epoch FROM a.finished_at - a.started_at))
                FROM {schema}.attempt a WHERE a.step_id = s.id),
               extract(epoch FROM s.finished_at - s.started_at)) END AS execution,
           extract(epoch FROM s.finished_at - s.started_at) AS running
    FROM ended e
    JOIN {schema}.step s ON s.namespace = %(namespace)s AND s.run_key = e.run_key
    WHERE s.finished_at IS NOT NULL AND s.kind NOT IN ('signal', 'timer')
)
SELECT workflow_type, name, kind, count(*) AS steps,
       count(*) FILTER (WHERE status IN ('failed', 'timed_out')) AS failed,
       avg(attempts)::double precision AS attempts,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration) AS duration,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY queue) AS queue,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY execution) AS execution,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (
           ORDER BY greatest(running - execution, 0)) AS backoff
FROM timed GROUP BY workflow_type, name, kind
ORDER BY steps DESC, workflow_type, name LIMIT %(limit)s

-- name: graph_nodes
WITH ended AS MATERIALIZED ({ended})
SELECT s.name, s.kind, count(*) AS steps,
       count(*) FILTER (WHERE s.status IN ('failed', 'timed_out')) AS failed,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(
           epoch FROM s.finished_at - coalesce(s.scheduled_at, s.started_at))) AS duration
FROM ended e JOIN {schema}.step s ON s.namespace = %(namespace)s AND s.run_key = e.run_key
WHERE s.kind <> 'signal'
GROUP BY s.name, s.kind ORDER BY min(coalesce(s.scheduled_at, s.started_at)), s.name
LIMIT %(limit)s

-- name: graph_edges
-- Along the order in which the steps of a run were asked for; the start and the end of a run are
-- steps without a name.
WITH ended AS MATERIALIZED ({ended}),
steps AS (
    SELECT e.run_key, s.name, s.status, coalesce(s.scheduled_at, s.started_at) AS begun,
           s.finished_at, s.event_id, s.id
    FROM ended e JOIN {schema}.step s ON s.namespace = %(namespace)s AND s.run_key = e.run_key
    WHERE s.kind <> 'signal' AND coalesce(s.scheduled_at, s.started_at) IS NOT NULL
    UNION ALL
    SELECT run_key, NULL, 'completed', '-infinity', started_at, 0, NULL FROM ended
    UNION ALL
    SELECT run_key, NULL, status, 'infinity', NULL, NULL, NULL FROM ended
),
hops AS (
    SELECT lag(name) OVER w AS source, name AS target, status,
           CASE WHEN isfinite(begun) THEN extract(epoch FROM begun - lag(finished_at) OVER w)
                END AS wait,
           row_number() OVER w AS place
    FROM steps WINDOW w AS (PARTITION BY run_key ORDER BY begun, event_id, id)
)
SELECT source, target, count(*) AS transitions,
       count(*) FILTER (WHERE status IN ('failed', 'timed_out'))::double precision / count(*)
           AS failure_rate,
       percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY greatest(wait, 0)) AS wait
FROM hops WHERE place > 1
GROUP BY source, target ORDER BY transitions DESC, source NULLS FIRST, target
LIMIT %(limit)s

-- name: count_ended
SELECT count(*) AS runs FROM ({ended}) e
