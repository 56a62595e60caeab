-- Every count is bounded and by an index: never a scan of a table.

-- name: stats
SELECT
    (SELECT coalesce(jsonb_object_agg(s.status, c.n) FILTER (WHERE c.n > 0), '{}')
     FROM unnest(%(statuses)s::text[]) AS s(status),
     LATERAL (SELECT count(*) AS n FROM (
         SELECT FROM {schema}.run r WHERE r.namespace = %(namespace)s AND r.status = s.status
         LIMIT %(limit)s) found) c) AS runs,
    (SELECT count(*) FROM (
         SELECT FROM {schema}.run WHERE namespace = %(namespace)s AND finished_at IS NOT NULL
           AND run_key IS NOT NULL AND status_version < %(authority)s AND unverifiable_at IS NULL
         LIMIT %(limit)s) found) AS unverified,
    (SELECT extract(epoch FROM clock_timestamp() - min(finished_at))::float8
     FROM {schema}.run WHERE namespace = %(namespace)s
       AND finished_at IS NOT NULL AND run_key IS NOT NULL AND status_version < %(authority)s
       AND unverifiable_at IS NULL) AS oldest_unverified_seconds,
    (SELECT count(*) FROM (
         SELECT FROM {schema}.run WHERE namespace = %(namespace)s AND unverifiable_at IS NOT NULL
         LIMIT %(limit)s) found) AS unverifiable,
    (SELECT count(*) FROM (
         SELECT FROM {schema}.outbox WHERE namespace = %(namespace)s
         LIMIT %(limit)s) found) AS outbox,
    (SELECT count(*) FROM (
         SELECT FROM {schema}.outbox WHERE namespace = %(namespace)s AND dead_at IS NOT NULL
         LIMIT %(limit)s) found) AS outbox_dead,
    (SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM (
         SELECT created_at FROM {schema}.outbox
         WHERE namespace = %(namespace)s AND dead_at IS NULL
         LIMIT %(limit)s) found) AS outbox_oldest_seconds,
    c.closed_through, c.round_at, c.rounds, c.lag_seconds,
    extract(epoch FROM clock_timestamp() - c.round_at)::float8 AS since_round_seconds
FROM (SELECT %(namespace)s::text AS namespace) asked
LEFT JOIN {schema}.reconcile_cursor c USING (namespace)

-- name: note_recorder
INSERT INTO {schema}.recorder AS kept (
    id, worker, seen_at, recorded, written, spilled, dropped, poisoned, spill_bytes)
VALUES (%(id)s, %(worker)s, clock_timestamp(), %(recorded)s, %(written)s, %(spilled)s, %(dropped)s,
        %(poisoned)s, %(spill_bytes)s)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, recorded = excluded.recorded,
    written = excluded.written, spilled = excluded.spilled, dropped = excluded.dropped,
    poisoned = excluded.poisoned, spill_bytes = excluded.spill_bytes

-- name: recorders
-- Of the last day; those seen in the last two minutes are taken to live.
SELECT count(*) FILTER (WHERE seen_at > now() - interval '2 minutes') AS alive,
       coalesce(sum(spilled), 0)::bigint AS spilled, coalesce(sum(dropped), 0)::bigint AS dropped,
       coalesce(sum(poisoned), 0)::bigint AS poisoned,
       coalesce(sum(spill_bytes) FILTER (WHERE seen_at > now() - interval '2 minutes'), 0)::bigint
           AS spill_bytes
FROM {schema}.recorder WHERE seen_at > now() - interval '1 day'
