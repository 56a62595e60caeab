-- What purging, holding and erasing do. Rows are locked in the order of every writer: run, step,
-- attempt, payload, then the rest, sorted by key.

-- name: purgeable
-- The next runs of a batch, by run_finished_idx. Without a history of their own (never started)
-- there is nothing to confirm.
SELECT id, run_key, finished_at FROM {schema}.run r
WHERE namespace = %(namespace)s AND finished_at < %(before)s
  AND (finished_at, id) > (%(after_at)s, %(after_id)s)
  AND (%(types)s::text[] IS NULL OR workflow_type = ANY(%(types)s))
  AND (%(delete)s OR payloads_purged_at IS NULL)
  AND (%(force)s OR run_key IS NULL OR status_version >= %(authority)s
       OR unverifiable_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM {schema}.outbox o WHERE o.run_id = r.id)
  AND NOT EXISTS (
      SELECT FROM {schema}.run_ref f JOIN {schema}.legal_hold h USING (namespace, ref_type, ref_id)
      WHERE f.run_id = r.id)
ORDER BY finished_at, id
LIMIT %(limit)s

-- name: left_out
-- Of the same age and types: what is not touched, and why. Bounded counts.
SELECT
    (SELECT count(*) FROM (
        SELECT FROM {schema}.run r
        WHERE namespace = %(namespace)s AND finished_at < %(before)s
          AND (%(types)s::text[] IS NULL OR workflow_type = ANY(%(types)s))
          AND run_key IS NOT NULL AND status_version < %(authority)s AND unverifiable_at IS NULL
        LIMIT %(limit)s) found) AS unverified,
    (SELECT count(DISTINCT r.id) FROM {schema}.legal_hold h
     JOIN {schema}.run_ref f USING (namespace, ref_type, ref_id)
     JOIN {schema}.run r ON r.id = f.run_id
     WHERE h.namespace = %(namespace)s AND r.finished_at < %(before)s
       AND (%(types)s::text[] IS NULL OR r.workflow_type = ANY(%(types)s))) AS held

-- name: lock_runs
SELECT id FROM {schema}.run WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE

-- name: values_of
SELECT v.id FROM (
    SELECT unnest(ARRAY[input_id, output_id]) AS id FROM {schema}.run WHERE id = ANY(%(ids)s)
    UNION
    SELECT unnest(ARRAY[input_id, output_id]) FROM {schema}.step
    WHERE namespace = %(namespace)s AND run_key = ANY(%(run_keys)s)) v
WHERE v.id IS NOT NULL

-- name: count_rows
SELECT
    (SELECT count(*) FROM {schema}.step
     WHERE namespace = %(namespace)s AND run_key = ANY(%(run_keys)s)) AS steps,
    (SELECT count(*) FROM {schema}.attempt a JOIN {schema}.step s ON s.id = a.step_id
     WHERE s.namespace = %(namespace)s AND s.run_key = ANY(%(run_keys)s)) AS attempts

-- name: count_values
SELECT count(*) AS payloads, coalesce(sum(size), 0)::bigint AS bytes
FROM {schema}.payload WHERE id = ANY(%(values)s)

-- name: delete_values
WITH gone AS (DELETE FROM {schema}.payload WHERE id = ANY(%(values)s) RETURNING size)
SELECT count(*) AS payloads, coalesce(sum(size), 0)::bigint AS bytes FROM gone

-- name: mark_purged
UPDATE {schema}.run SET payloads_purged_at = clock_timestamp() WHERE id = ANY(%(ids)s)

-- name: delete_attempts
DELETE FROM {schema}.attempt a USING {schema}.step s
WHERE s.id = a.step_id AND s.namespace = %(namespace)s AND s.run_key = ANY(%(run_keys)s)

-- name: delete_step_failures
DELETE FROM {schema}.step_failure
WHERE namespace = %(namespace)s AND run_key = ANY(%(run_keys)s)

-- name: delete_steps
DELETE FROM {schema}.step WHERE namespace = %(namespace)s AND run_key = ANY(%(run_keys)s)

-- name: delete_runs
WITH labels AS (DELETE FROM {schema}.run_label WHERE run_id = ANY(%(ids)s)),
     refs AS (DELETE FROM {schema}.run_ref WHERE run_id = ANY(%(ids)s)),
     keys AS (DELETE FROM {schema}.idempotency
              WHERE namespace = %(namespace)s AND run_id = ANY(%(ids)s))
DELETE FROM {schema}.run WHERE id = ANY(%(ids)s)

-- name: horizon
SELECT max(dropped_before) AS horizon FROM {schema}.payload_horizon

-- name: values_without_month
SELECT EXISTS (SELECT FROM {schema}.payload_default WHERE id < %(below)s) AS found

-- name: month_is_needed
-- Whether any run that may have values of a month, in whatever namespace, is not to be purged. Values
-- are dated between a run's begin and its end, give or take a day. Each way to be needed is a question
-- to an index of its own; none looks at every run of the month.
WITH RECURSIVE spaces AS (
    (SELECT namespace FROM {schema}.run ORDER BY namespace LIMIT 1)
    UNION ALL
    SELECT (SELECT namespace FROM {schema}.run WHERE namespace > s.namespace
            ORDER BY namespace LIMIT 1)
    FROM spaces s WHERE s.namespace IS NOT NULL
)
SELECT
    -- Open.
    EXISTS (
        SELECT FROM spaces s CROSS JOIN LATERAL (
            SELECT FROM {schema}.run r
            WHERE r.namespace = s.namespace AND r.ordered_at < %(month_end)s
              AND r.finished_at IS NULL AND r.payloads_purged_at IS NULL LIMIT 1) r)
    -- Of another namespace: begun within it, or before and long.
    OR EXISTS (
        SELECT FROM spaces s CROSS JOIN LATERAL (
            (SELECT FROM {schema}.run r
             WHERE r.namespace = s.namespace AND r.ordered_at < %(month_end)s
               AND r.ordered_at >= %(month_start)s::timestamptz - interval '3 days'
               AND r.finished_at >= %(month_start)s::timestamptz - interval '1 day'
               AND r.payloads_purged_at IS NULL
             ORDER BY r.ordered_at, r.id LIMIT 1)
            UNION ALL
            (SELECT FROM {schema}.run r
             WHERE r.namespace = s.namespace AND r.ordered_at < %(month_start)s
               AND r.finished_at - r.started_at > interval '47:00:00'
               AND r.finished_at >= %(month_start)s::timestamptz - interval '1 day'
               AND r.payloads_purged_at IS NULL LIMIT 1)
            UNION ALL
            (SELECT FROM {schema}.run r
             WHERE r.namespace = s.namespace AND r.ordered_at < %(month_start)s
               AND (r.started_at - r.ordered_at NOT BETWEEN '-00:01:00' AND '00:01:00'
                    OR r.finished_at - r.ordered_at < '-00:01:00')
               AND r.finished_at >= %(month_start)s::timestamptz - interval '1 day'
               AND r.payloads_purged_at IS NULL LIMIT 1)) r
        WHERE s.namespace <> %(namespace)s)
    -- Too young: it took as long as from the month's end, or its clocks were apart. Ordered, and apart,
    -- since the planner would expect to come upon one soon and read the table.
    OR EXISTS (
        SELECT FROM (
            SELECT r.* FROM {schema}.run r
            WHERE r.namespace = %(namespace)s AND r.finished_at IS NOT NULL
              AND r.finished_at - r.started_at
                  >= %(before)s::timestamptz - %(month_end)s::timestamptz - interval '1 minute'
            ORDER BY r.finished_at - r.started_at DESC OFFSET 0) r
        WHERE r.ordered_at < %(month_end)s AND r.finished_at >= %(before)s
          AND r.payloads_purged_at IS NULL)
    OR EXISTS (
        SELECT FROM (
            SELECT r.* FROM {schema}.run r
            WHERE r.namespace = %(namespace)s
              AND (r.started_at - r.ordered_at NOT BETWEEN '-00:01:00' AND '00:01:00'
                   OR r.finished_at - r.ordered_at < '-00:01:00')
            ORDER BY r.ordered_at, r.id OFFSET 0) r
        WHERE r.ordered_at < %(month_end)s AND r.finished_at >= %(before)s
          AND r.payloads_purged_at IS NULL)
    -- Not confirmed by history.
    OR (NOT %(force)s AND EXISTS (
        SELECT FROM {schema}.run r
        WHERE r.namespace = %(namespace)s AND r.ordered_at < %(month_end)s
          AND r.finished_at >= %(month_start)s::timestamptz - interval '1 day'
          AND r.run_key IS NOT NULL AND r.status_version < 1152921504606846976
          AND r.unverifiable_at IS NULL AND r.payloads_purged_at IS NULL))
    -- In the outbox, or on hold.
    OR EXISTS (
        SELECT FROM {schema}.outbox o JOIN {schema}.run r ON r.id = o.run_id
        WHERE r.ordered_at < %(month_end)s AND r.payloads_purged_at IS NULL
          AND r.finished_at >= %(month_start)s::timestamptz - interval '1 day')
    OR EXISTS (
        SELECT FROM {schema}.legal_hold h
        JOIN {schema}.run_ref f USING (namespace, ref_type, ref_id)
        JOIN {schema}.run r ON r.id = f.run_id
        WHERE r.ordered_at < %(month_end)s AND r.payloads_purged_at IS NULL
          AND r.finished_at >= %(month_start)s::timestamptz - interval '1 day')
    AS needed

-- name: note_horizon
INSERT INTO {schema}.payload_horizon (dropped_before) VALUES (%(month_end)s)
ON CONFLICT DO NOTHING

-- name: forget_recorders
DELETE FROM {schema}.recorder WHERE seen_at < %(before)s

-- name: add_hold
INSERT INTO {schema}.legal_hold (namespace, ref_type, ref_id, reason, actor)
VALUES (%(namespace)s, %(ref_type)s, %(ref_id)s, %(reason)s, %(actor)s)
ON CONFLICT DO NOTHING RETURNING ref_id

-- name: remove_hold
DELETE FROM {schema}.legal_hold
WHERE namespace = %(namespace)s AND ref_type = %(ref_type)s AND ref_id = %(ref_id)s
RETURNING ref_id

-- name: list_holds
SELECT ref_type, ref_id, reason, actor, held_at FROM {schema}.legal_hold
WHERE namespace = %(namespace)s ORDER BY ref_type, ref_id LIMIT 10000

-- name: runs_of_ref
SELECT r.id, r.run_key, r.status, r.finished_at IS NOT NULL AS is_closed,
       r.erased_at IS NOT NULL AS is_erased,
       EXISTS (SELECT FROM {schema}.outbox o WHERE o.run_id = r.id) AS is_waiting,
       (SELECT f.ref_type || '/' || f.ref_id FROM {schema}.run_ref f
        JOIN {schema}.legal_hold h USING (namespace, ref_type, ref_id)
        WHERE f.run_id = r.id LIMIT 1) AS held_by
FROM {schema}.run_ref x JOIN {schema}.run r ON r.id = x.run_id
WHERE x.namespace = %(namespace)s AND x.ref_type = %(ref_type)s AND x.ref_id = %(ref_id)s
ORDER BY r.id

-- name: erase_run
WITH erased AS (
UPDATE {schema}.run SET
    erased_at = clock_timestamp(), input_id = NULL, output_id = NULL, metadata = NULL,
    metadata_patch = NULL, error_type = NULL, error_message = NULL, error_stack = NULL,
    task_failure_message = NULL,
    waiting_on = NULL, waiting_on_at = NULL,
    -- Nothing is written to an erased run any more, not even history's verdict.
    unverifiable_at = CASE WHEN run_key IS NOT NULL AND status_version < %(authority)s
                           THEN coalesce(unverifiable_at, clock_timestamp())
                           ELSE unverifiable_at END
WHERE id = %(id)s AND erased_at IS NULL
RETURNING *
)
{announce erased}

-- name: erase_pending_changes
-- What was announced of it and its steps; that it was erased is announced after that. First here:
-- what the sequencer moves on meanwhile, the next statement sees.
DELETE FROM {schema}.change_pending WHERE run_key = %(run_key)s OR run_id = %(id)s

-- name: erase_changes
DELETE FROM {schema}.change
WHERE run_id = %(id)s
   OR (run_id IS NULL AND run_key = %(run_key)s)  -- Steps that were told before it was known.

-- name: erase_steps
UPDATE {schema}.step SET input_id = NULL, output_id = NULL, error_type = NULL,
    error_message = NULL, progress = NULL, detail = NULL
WHERE namespace = %(namespace)s AND run_key = %(run_key)s

-- name: erase_attempts
UPDATE {schema}.attempt a SET error_type = NULL, error_message = NULL, error_stack = NULL,
    annotations = NULL
FROM {schema}.step s
WHERE s.id = a.step_id AND s.namespace = %(namespace)s AND s.run_key = %(run_key)s

-- name: erase_step_failures
DELETE FROM {schema}.step_failure WHERE namespace = %(namespace)s AND run_key = %(run_key)s

-- name: erase_labels
DELETE FROM {schema}.run_label WHERE run_id = %(id)s

-- name: erase_workflows
UPDATE {schema}.workflow SET metadata = NULL
WHERE namespace = %(namespace)s AND ref_type = %(ref_type)s AND ref_id = %(ref_id)s
  AND metadata IS NOT NULL
