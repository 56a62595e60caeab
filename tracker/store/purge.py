"""Removes what is old: values, or whole runs, in batches that are a transaction each.

Open runs are never touched, nor those on hold, nor (unless forced) those that history has not
confirmed. A batch that was cut off left nothing half done: the same call goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from tracker.core.status import HISTORY_AUTHORITY
from tracker.store.blocking import LOCK_TIMEOUT, Connection, connect, patiently
from tracker.store.database import DatabaseOptions, translated
from tracker.store.partitions import Month, existing_months
from tracker.store.queries import load

logger = logging.getLogger(__name__)

BATCH = 500
"""Runs of one transaction."""
COUNTED_TO = 100_001
BEYOND = timedelta(hours=1)
"""After its end a month may be dropped: nearly all runs that began in it have closed before."""
_SQL = load("retention")
_NIL = UUID(int=0)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


class PurgePolicy(StrEnum):
    """What stays of an old run."""

    FULL = "full"
    """Everything: a purge under this policy only counts."""
    VERDICT = "verdict"
    """Status, times, steps, attempts, errors, metadata; inputs and outputs go."""
    DELETE = "delete"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class PurgeOrder:
    """What to purge.

    Attributes:
        before: Runs that closed earlier than this.
        workflow_types: Only these; empty: all.
        dry_run: Only count.
        force: Also runs that history has not confirmed.
    """

    namespace: str
    before: datetime
    policy: PurgePolicy = PurgePolicy.VERDICT
    workflow_types: tuple[str, ...] = ()
    dry_run: bool = False
    force: bool = False


@dataclass(slots=True)
class PurgeReport:
    """What a purge removed, or would remove.

    Attributes:
        runs: Runs that lost their values, or were deleted.
        steps, attempts: Rows that were deleted with them.
        payloads: Values; those of dropped months are not counted one by one.
        bytes: Their size; of dropped months, that of the partition.
        partitions: Months whose values were dropped as a whole.
        dropped_before: End of the last of them.
        unverified: Runs left out because history has not confirmed them.
        held: Runs left out because of a legal hold.
    """

    policy: PurgePolicy
    runs: int = 0
    steps: int = 0
    attempts: int = 0
    payloads: int = 0
    bytes: int = 0
    partitions: list[str] = field(default_factory=list[str])
    dropped_before: datetime | None = None
    unverified: int = 0
    held: int = 0


def purge(options: DatabaseOptions, order: PurgeOrder) -> PurgeReport:
    """Carry out an order, as the owner of the tables.

    Raises:
        DatabaseUnavailable: Postgres is away, or others kept the tables locked.
        ConfigurationError: The role may not delete.
    """
    report = PurgeReport(order.policy)
    with (
        translated(),
        connect(options.direct_dsn or options.dsn, autocommit=True) as direct,
    ):
        session = _Session(direct, options, order)
        [left] = session.rows("left_out", limit=COUNTED_TO)
        report.unverified = 0 if order.force else left["unverified"]
        report.held = left["held"]
        if order.policy is PurgePolicy.FULL:
            return report
        months = existing_months(direct, options.schema)
        if not order.workflow_types:
            months = [month for month in months if not _drop_month(session, month, report)]
        _purge_runs(session, report, _dropped_before(session, report, months))
        if not order.dry_run:
            session.change("forget_recorders")
    return report


class _Session:
    def __init__(self, connection: Connection, options: DatabaseOptions, order: PurgeOrder) -> None:
        self.connection = connection
        self.options = options
        self.order = order
        self._given = {
            "namespace": order.namespace,
            "before": order.before,
            "types": list(order.workflow_types) or None,
            "delete": order.policy is PurgePolicy.DELETE,
            "force": order.force,
            "authority": HISTORY_AUTHORITY,
        }

    def rows(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of a statement."""
        cursor = self._execute(name, parameters)
        return cursor.fetchall()

    def change(self, name: str, **parameters: Any) -> int:
        """Rows that a statement changed."""
        return self._execute(name, parameters).rowcount

    def _execute(self, name: str, parameters: dict[str, Any]) -> Any:
        cursor = self.connection.cursor(row_factory=dict_row)
        return cursor.execute(self.options.qualified(_SQL[name]), self._given | parameters)


def _dropped_before(session: _Session, report: PurgeReport, left: Sequence[Month]) -> datetime:
    """Before which runs have no values any more: all months up to there are gone, or would be.

    Args:
        left: Months that have a partition.
    """
    [known] = session.rows("horizon")
    horizon = max(known["horizon"] or _EARLIEST, report.dropped_before or _EARLIEST)
    if any(month.start < horizon for month in left):
        return _EARLIEST  # Kept for somebody, or made anew for values that came late.
    [rest] = session.rows("values_without_month", below=Month.of(horizon).lowest_id)
    return _EARLIEST if rest["found"] else horizon


def _purge_runs(session: _Session, report: PurgeReport, dropped: datetime) -> None:
    after_at, after_id = _EARLIEST, _NIL
    if session.order.policy is PurgePolicy.VERDICT:
        after_at = dropped
    while True:
        runs = session.rows("purgeable", after_at=after_at, after_id=after_id, limit=BATCH)
        if not runs:
            return
        patiently(lambda runs=runs: _purge_batch(session, runs, report))
        after_at, after_id = runs[-1]["finished_at"], runs[-1]["id"]


def _purge_batch(session: _Session, runs: list[dict[str, Any]], report: PurgeReport) -> None:
    ids = [run["id"] for run in runs]
    of_runs = {"ids": ids, "run_keys": [run["run_key"] for run in runs if run["run_key"]]}
    deletes = session.order.policy is PurgePolicy.DELETE
    with session.connection.transaction():
        session.connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        if not session.order.dry_run:
            session.rows("lock_runs", **of_runs)
        values = [row["id"] for row in session.rows("values_of", **of_runs)]
        counted = session.rows("count_rows", **of_runs)[0] if deletes else {}
        name = "count_values" if session.order.dry_run else "delete_values"
        if not session.order.dry_run and deletes:
            session.change("delete_attempts", **of_runs)
            session.change("delete_step_failures", **of_runs)
            session.change("delete_steps", **of_runs)
        [freed] = session.rows(name, values=values)
        if not session.order.dry_run:
            session.change("delete_runs" if deletes else "mark_purged", **of_runs)
    report.runs += len(runs)
    report.steps += counted.get("steps", 0)
    report.attempts += counted.get("attempts", 0)
    report.payloads += freed["payloads"]
    report.bytes += freed["bytes"]


def _drop_month(session: _Session, month: Month, report: PurgeReport) -> bool:
    """Drop a month's values at once, if no run that may have some of them is to keep them; or, in a
    dry run, tell whether they would be."""
    month_end = month.plus(1).start
    if month_end + BEYOND > session.order.before:
        return False
    with session.connection.transaction():
        session.connection.execute("SELECT set_config('statement_timeout', '0', true)")
        [found] = session.rows("month_is_needed", month_start=month.start, month_end=month_end)
    if found["needed"]:
        return False
    name = Identifier(session.options.schema, month.partition)
    size = SQL("SELECT pg_total_relation_size({}::regclass) AS bytes").format(
        f'"{session.options.schema}".{month.partition}'
    )

    def drop() -> int:
        with session.connection.transaction():
            session.connection.execute(
                "SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT]
            )
            row = session.connection.execute(size).fetchone()
            if not session.order.dry_run:
                session.connection.execute(SQL("DROP TABLE {}").format(name))
                session.change("note_horizon", month_end=month_end)
        return 0 if row is None else int(row[0])

    report.bytes += patiently(drop)
    report.partitions.append(month.partition)
    report.dropped_before = month_end
    if not session.order.dry_run:
        logger.info("dropped %s", month.partition, extra={"event": "purge.dropped"})
    return True
