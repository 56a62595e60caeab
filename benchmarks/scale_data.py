"""Fills a database with the runs of a year: two steps of an attempt each, an input, a ref, a label.

The server makes the rows and COPY moves them, in binary, from one connection to another. Indexes
but those of keys are made afterwards. What was loaded is remembered, so that a load that was
stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.sql import SQL, Identifier

from tracker.core.status import HISTORY_AUTHORITY
from tracker.migrations import migrate
from tracker.store.blocking import Connection, connect
from tracker.store.partitions import Month, ensure_partitions

YEAR = timedelta(days=365)
SLICES = 20
"""COPYs of each table."""
RUNNING = 1000
"""Runs that are still open, the newest."""
NAMESPACE = "default"

_NOTES = """
CREATE TABLE IF NOT EXISTS public.scale (first_at timestamptz, every interval);
CREATE TABLE IF NOT EXISTS public.scale_index (name text PRIMARY KEY, definition text);
CREATE TABLE IF NOT EXISTS public.scale_loaded (
    table_name text, slice integer, PRIMARY KEY (table_name, slice));
CREATE OR REPLACE FUNCTION public.v7(at timestamptz, seed text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
                || left(md5(seed), 3) || '8' || substr(md5(seed), 4, 15))::uuid $$;
"""

_MADE = """(
    SELECT *, CASE WHEN status <> 'running' THEN at + interval '2 s' END AS ended,
           public.v7(at, 'run' || n) AS id, public.v7(at, 'key' || n) AS run_key,
           public.v7(date_trunc('hour', at), 'input' || n) AS input_id
    FROM (
        SELECT n, at, 'default' AS namespace, 'o-' || (n - 1) / 10 AS ref_id,
               CASE WHEN n % 10 < 5 THEN 'OrderFulfilment' WHEN n % 10 < 8 THEN 'EmailCampaign'
                    WHEN n % 1000 = 8 THEN 'YearlyReport' ELSE 'NightlyReport' END AS type,
               CASE WHEN n > {runs} - {running} THEN 'running' WHEN n % 20 = 0 THEN 'failed'
                    WHEN n % 200 = 1 THEN 'timed_out' WHEN n % 1000 = 2 THEN 'terminated'
                    ELSE 'completed' END AS status
        FROM (SELECT n, {first_at}::timestamptz + n * {every}::interval AS at
              FROM generate_series({low}::bigint, {high}::bigint) n) numbered
    ) named
) m"""

_STEPS = f"""(
    SELECT m.*, i, 'charge' AS name, public.v7(at, 'step' || n || '-' || i) AS step_id,
           at + i * interval '400 ms' AS asked, at + i * interval '420 ms' AS begun,
           CASE WHEN NOT (status = 'running' AND i = 2)
                THEN at + (i + 1) * interval '400 ms' END AS done,
           status = 'failed' AND i = 2 AS fails
    FROM {_MADE} CROSS JOIN generate_series(1, 2) i
) s"""

_ERROR = "'the bank declined card ' || n || ' of ' || ref_id"
_STEP_STATUS = "CASE WHEN done IS NULL THEN 'started' WHEN fails THEN 'failed' ELSE 'completed' END"

_TABLES: dict[str, tuple[dict[str, str], str]] = {
    "run": (
        {
            "id": "id", "namespace": "namespace", "engine": "'temporal'", "run_key": "run_key",
            "workflow_type": "type", "workflow_id": "type || '/' || ref_id || '/' || n",
            "task_queue": "'queue-' || n % 4", "ref_type": "'order'", "ref_id": "ref_id",
            "ref_version": "1", "status": "status", "status_version": f"{HISTORY_AUTHORITY} + 20",
            "ordered_at": "at", "started_at": "at", "finished_at": "ended",
            "input_id": "input_id", "input_version": "1",
            "error_type": "CASE WHEN status = 'failed' THEN 'CardDeclined' END",
            "error_message": f"CASE WHEN status = 'failed' THEN {_ERROR} END",
            "metadata": "jsonb_build_object('region', 'r-' || n % 10)", "metadata_version": "1",
            "first_run_key": "run_key", "attempt": "1", "worker_identity": "'7@worker-' || n % 9",
            "parent_run_key": "CASE WHEN n % 10 = 7 THEN run_key END",
            "build_id": "'build-' || n * 20 / {runs}", "projected_length": "20",
            "projected_at": "ended",
        },
        _MADE,
    ),
    "run_ref": (
        {
            "run_id": "id", "namespace": "namespace", "ref_type": "'order'", "ref_id": "ref_id",
            "ordered_at": "at",
        },
        _MADE,
    ),
    "run_label": (
        {
            "run_id": "id", "key": "'region'", "value": "'r-' || n % 10",
            "namespace": "namespace", "ordered_at": "at",
        },
        _MADE,
    ),
    "workflow": (
        {
            "namespace": "namespace", "workflow_type": "type", "ref_type": "'order'",
            "ref_id": "ref_id", "created_at": "at",
        },
        f"(SELECT DISTINCT ON (type, ref_id) * FROM {_MADE} ORDER BY type, ref_id, n) d",
    ),
    "payload": (
        {
            "id": "input_id", "treatment": "'full'", "encoding": "'json/plain'", "size": "44",
            "digest": "sha256(n::text::bytea)",
            "body": "jsonb_build_array(jsonb_build_object('order_id', ref_id, 'amount', n % 500))",
        },
        _MADE,
    ),
    "step": (
        {
            "id": "step_id", "namespace": "namespace", "run_key": "run_key", "kind": "'activity'",
            "step_key": "i || '@' || n", "name": "CASE i WHEN 1 THEN 'reserve' ELSE 'charge' END",
            "type": "CASE i WHEN 1 THEN 'reserve' ELSE 'charge' END", "status": _STEP_STATUS,
            "status_version": f"{HISTORY_AUTHORITY} + 1", "task_queue": "'queue-' || n % 4",
            "attempts": "1", "scheduled_at": "asked", "started_at": "begun",
            "last_started_at": "begun", "finished_at": "done", "input_version": "1",
            "error_type": "CASE WHEN fails THEN 'CardDeclined' END",
            "error_message": f"CASE WHEN fails THEN {_ERROR} END", "event_id": "i * 6",
        },
        _STEPS,
    ),
    "attempt": (
        {
            "id": "public.v7(at, 'attempt' || n || '-' || i)", "step_id": "step_id", "number": "1",
            "outcome": "CASE WHEN done IS NULL THEN 'running' WHEN fails THEN 'failed'"
            " ELSE 'completed' END",
            "outcome_version": "3", "scheduled_at": "asked", "started_at": "begun",
            "finished_at": "done", "error_type": "CASE WHEN fails THEN 'CardDeclined' END",
            "error_message": f"CASE WHEN fails THEN {_ERROR} END",
            "task_queue": "'queue-' || n % 4", "worker_identity": "'7@worker-' || n % 9",
        },
        _STEPS,
    ),
    "step_failure": (
        {
            "step_id": "step_id", "namespace": "namespace", "run_key": "run_key",
            "workflow_type": "type", "kind": "'activity'", "name": "'charge'",
            "status": "'failed'", "attempts": "1", "error_type": "'CardDeclined'",
            "error_message": _ERROR, "first_at": "done", "seen_at": "done", "run_id": "id",
            "ordered_at": "at",
        },
        f"{_STEPS} WHERE fails",
    ),
}  # fmt: skip
"""Table → column → what of; and of which rows."""

_LANES = (
    ("run", "run_ref", "run_label", "workflow"),
    ("step", "attempt", "payload", "step_failure"),
)
"""Loaded side by side."""


@dataclass(frozen=True)
class Scale:
    """What a database holds.

    Attributes:
        runs: How many.
        first_at: When the first began.
        every: Between two.
    """

    runs: int
    first_at: datetime
    every: timedelta

    def moment(self, share: float) -> datetime:
        """When so many of all runs had begun."""
        return self.first_at + self.every * (self.runs * share)


def load(dsn: str, runs: int, tell: Callable[[str], None]) -> Scale:
    """Load what is missing of so many runs.

    Args:
        dsn: A database of this benchmark alone.
        tell: Told what is being done.

    Returns:
        What is there now.
    """
    migrate(dsn)
    with connect(dsn, autocommit=True) as connection:
        connection.execute(_NOTES)
        scale = _scale(connection, runs)
        ensure_partitions(connection, now=scale.first_at + timedelta(days=31), months_ahead=13)
        if not any(_missing(connection, table) for table in _TABLES) and not _rows(
            connection, _INDEXES_LEFT
        ):
            return scale
        _drop_indexes(connection)
        with ThreadPoolExecutor(len(_LANES)) as threads:
            list(threads.map(lambda lane: _load_lane(dsn, scale, lane, tell), _LANES))
        _types(connection)
        _make_indexes(connection, tell)
        tell("VACUUM")
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        connection.execute("CHECKPOINT")
    return scale


def _scale(connection: Connection, runs: int) -> Scale:
    if not _rows(connection, "SELECT FROM public.scale"):
        connection.execute(
            "INSERT INTO public.scale VALUES (%s, %s)", [datetime.now(UTC) - YEAR, YEAR / runs]
        )
    [(first_at, every)] = _rows(connection, "SELECT first_at, every FROM public.scale")
    return Scale(runs, first_at, every)


def _load_lane(
    dsn: str, scale: Scale, tables: tuple[str, ...], tell: Callable[[str], None]
) -> None:
    with connect(dsn) as source, connect(dsn) as target:
        for table in tables:
            for number in _missing(target, table):
                _copy(source, target, scale, table, number)
            tell(table)


def _copy(source: Connection, target: Connection, scale: Scale, table: str, number: int) -> None:
    size = scale.runs // SLICES
    _copy_rows(source, target, scale, table, number * size + 1, (number + 1) * size)
    target.execute("INSERT INTO public.scale_loaded VALUES (%s, %s)", [table, number])
    target.commit()


def _copy_rows(
    source: Connection, target: Connection, scale: Scale, table: str, low: int, high: int
) -> None:
    columns, rows = _TABLES[table]
    made = f"COPY (SELECT {', '.join(columns.values())} FROM {rows}) TO STDOUT"
    given = {
        "runs": scale.runs, "running": RUNNING, "low": low, "high": high,
        "first_at": f"'{scale.first_at.isoformat()}'",
        "every": f"'{scale.every.total_seconds()} s'",
    }  # fmt: skip
    for name, value in given.items():
        made = made.replace(f"{{{name}}}", str(value))
    names = SQL(", ").join(map(Identifier, columns))
    into = SQL("COPY flowtrail.{} ({}) FROM STDIN").format(Identifier(table), names)
    with source.cursor().copy(made.encode()) as outgoing, target.cursor().copy(into) as incoming:
        for data in outgoing:
            incoming.write(data)
    source.rollback()


def _missing(connection: Connection, table: str) -> list[int]:
    query = "SELECT slice FROM public.scale_loaded WHERE table_name = %s"
    loaded = {number for (number,) in connection.execute(query, [table]).fetchall()}
    return [number for number in range(SLICES) if number not in loaded]


_SECONDARY = """
SELECT i.indexname, i.indexdef FROM pg_indexes i
WHERE i.schemaname = 'flowtrail' AND i.tablename = ANY(%s)
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname)
"""
_INDEXES_LEFT = "SELECT name, definition FROM public.scale_index"


def _drop_indexes(connection: Connection) -> None:
    for name, definition in connection.execute(_SECONDARY, [list(_TABLES)]).fetchall():
        connection.execute(
            "INSERT INTO public.scale_index VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [name, definition],
        )
        connection.execute(SQL("DROP INDEX flowtrail.{}").format(Identifier(name)))


def _make_indexes(connection: Connection, tell: Callable[[str], None]) -> None:
    connection.execute("SET maintenance_work_mem = '2GB'")
    for name, definition in _rows(connection, _INDEXES_LEFT):
        tell(name)
        with connection.transaction():
            connection.execute(definition.encode())
            connection.execute("DELETE FROM public.scale_index WHERE name = %s", [name])


def _types(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO flowtrail.workflow_type (namespace, name, task_queue, registered_at)"
        " SELECT 'default', name, 'nobody', now() FROM unnest(ARRAY['OrderFulfilment',"
        " 'EmailCampaign', 'YearlyReport', 'NightlyReport']) name ON CONFLICT DO NOTHING"
    )


def _rows(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode()).fetchall()


def restore_month(dsn: str, scale: Scale, month: Month) -> None:
    """Bring back the values of a month that was purged, as a whole or run by run."""
    low = (month.start - scale.first_at) // scale.every + 1
    high = (month.plus(1).start - scale.first_at) // scale.every
    with connect(dsn, autocommit=True) as owner:
        ensure_partitions(owner, now=month.plus(1).start, months_ahead=0)
        owner.execute("DELETE FROM flowtrail.payload_horizon")
        owner.execute(
            "UPDATE flowtrail.run SET payloads_purged_at = NULL WHERE namespace = %s"
            " AND ordered_at >= %s AND ordered_at < %s AND payloads_purged_at IS NOT NULL",
            [NAMESPACE, month.start, month.plus(1).start],
        )
        owner.execute(
            SQL("TRUNCATE flowtrail.{}").format(Identifier(month.partition)),
        )
    with connect(dsn) as source, connect(dsn) as target:
        _copy_rows(source, target, scale, "payload", max(low, 1), min(high, scale.runs))
        target.commit()
