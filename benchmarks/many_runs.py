"""Fills a migrated database with runs as a busy year leaves them: one every 10 s, newest last.

Written by SQL in the server, since a million runs through the recorder would take minutes: about
80 s a million on two shared cores.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = timedelta(seconds=10)

_RUNS = """
INSERT INTO flowtrail.run (
    id, namespace, engine, run_key, workflow_type, workflow_id, task_queue, ref_type, ref_id,
    status, status_version, ordered_at, accepted_at, started_at, finished_at, metadata,
    first_run_key, attempt, output_id, input_id)
SELECT id, 'default', 'temporal', gen_random_uuid(), type, type || '/' || id, 'queue-' || n %% 4,
       CASE WHEN n %% 50 > 0 THEN 'order' END,
       CASE WHEN n %% 50 > 0 THEN 'o-' || n / 3 END,
       status, 1, at, at, at + interval '10 ms',
       CASE WHEN status <> 'running' THEN at + interval '2 s' END,
       metadata, gen_random_uuid(), 1, NULL, NULL
FROM (
    SELECT n, at, uuidv7(at - clock_timestamp()) AS id,
           CASE WHEN n %% 10 < 5 THEN 'OrderFulfilment' WHEN n %% 10 < 8 THEN 'EmailCampaign'
                WHEN n %% 1000 = 8 THEN 'YearlyReport' ELSE 'NightlyReport' END AS type,
           CASE WHEN n > %(count)s * 0.999 THEN 'running' WHEN n %% 20 = 0 THEN 'failed'
                WHEN n %% 200 = 1 THEN 'timed_out' WHEN n %% 1000 = 2 THEN 'terminated'
                ELSE 'completed' END AS status,
           jsonb_strip_nulls(jsonb_build_object(
               'half', CASE WHEN n %% 2 = 0 THEN 'yes' END,
               'oldest', CASE WHEN n <= %(count)s * 0.05 THEN 'yes' END,
               'rare', CASE WHEN n %% 1000 = 500 THEN 'yes' END,
               'single', CASE WHEN n = %(count)s / 3 THEN 'yes' END,
               'region', 'r-' || n %% 10)) AS metadata
    FROM (SELECT n, %(start)s::timestamptz + n * %(every)s::interval AS at
          FROM generate_series(1, %(count)s) n) numbered
) made
"""

_SATELLITES = (
    """
    INSERT INTO flowtrail.run_ref
    SELECT id, namespace, ref_type, ref_id, ordered_at FROM flowtrail.run
    WHERE ref_type IS NOT NULL
    """,
    # A link that half of all runs share.
    """
    INSERT INTO flowtrail.run_ref
    SELECT id, namespace, 'tenant', 't-' || (metadata ? 'half')::int, ordered_at
    FROM flowtrail.run
    """,
    """
    INSERT INTO flowtrail.run_label
    SELECT r.id, e.key, e.value, r.namespace, r.ordered_at
    FROM flowtrail.run r, jsonb_each_text(r.metadata) e
    """,
    """
    INSERT INTO flowtrail.workflow (namespace, workflow_type, ref_type, ref_id, created_at)
    SELECT DISTINCT ON (namespace, workflow_type, ref_type, ref_id)
           namespace, workflow_type, ref_type, ref_id, ordered_at
    FROM flowtrail.run ORDER BY 1, 2, 3, 4, 5
    """,
    """
    INSERT INTO flowtrail.workflow_type (namespace, name, task_queue, registered_at)
    SELECT DISTINCT 'default', workflow_type, 'nobody', now() FROM flowtrail.workflow
    """,
)


def load(dsn: str, count: int) -> None:
    """Insert `count` runs with refs, labels and workflows, and bring the statistics up to date."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_RUNS, {"count": count, "start": START, "every": EVERY})
        for statement in _SATELLITES:
            connection.execute(statement)
        connection.execute("VACUUM ANALYZE")
        # What is still to be written would be written by those who are measured.
        connection.execute("CHECKPOINT")


def moment(share: float, count: int) -> datetime:
    """When so many of all runs had begun."""
    return START + EVERY * (count * share)
