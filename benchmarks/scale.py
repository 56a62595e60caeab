"""Ten million runs with twenty million steps: what lists and statistics cost, whether recording
slows down, how long it takes to drop a month of values, and how many bytes a run is.

The database stays between calls (`--folder`), since loading it takes half an hour; what a call
records into it, a few thousand runs, stays too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.report import Bar, finish
from benchmarks.scale_data import NAMESPACE, Scale, load, restore_month
from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    RunClosed,
    RunIdentity,
    RunStarted,
    StepIdentity,
    TrackerEvent,
)
from tracker.core.fold import fold
from tracker.core.ids import Ref, derived_run_id, new_id
from tracker.core.payloads import Handling, Treatment, store_json
from tracker.core.status import AttemptOutcome, RunStatus, StepKind, StepStatus
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.migrations import migrate
from tracker.models.filters import Page, RunFilter, WorkflowFilter
from tracker.models.search import FailureFilter, StatsFilter, StepFilter
from tracker.store.cursors import encode_cursor, list_digest
from tracker.store.database import Database, DatabaseOptions, dedicated
from tracker.store.partitions import Month
from tracker.store.purge import PurgeOrder, purge
from tracker.store.record import write_batch
from tracker.store.run_detail import run_detail
from tracker.store.run_queries import list_runs
from tracker.store.search import failed_steps, failures
from tracker.store.stats import read_stats
from tracker.store.workflow_stats import workflow_graph, workflow_stats
from tracker.store.workflows import list_workflow_types, list_workflows, runs_by_ref

QUERY_P95_MS = 20.0
INSERT_RATIO = 0.8
PURGE_SECONDS = 1.0
SMALL = 10_000
"""Runs of the database with which recording is compared."""
WARM_UP = 10
TIMES = 60
ROUNDS = 24
BATCHES = 10
BATCH = 50
"""Runs of a batch, each with two steps."""

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Cost:
    """Milliseconds of a query."""

    name: str
    p50: float
    p95: float


async def main(runs: int, folder: Path) -> None:
    """Run the benchmark and end the program."""
    console = Console()
    began = time.monotonic()

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {what}", highlight=False)

    with EmbeddedPostgres.start(folder, durable=False) as postgres:
        dsn, small = (_database(postgres, name) for name in ("scale", "small"))
        scale = load(dsn, runs, tell)
        migrate(small)
        tell("queries")
        costs = await _measure_queries(dsn, scale)
        tell("recording")
        inserts = await _measure_inserts(dsn, small)
        tell("purge of a month")
        purged = _measure_purge(dsn, scale)
        sizes = await _sizes(dsn)
    _report(console, scale, costs, inserts, purged, sizes)


def _database(postgres: EmbeddedPostgres, name: str) -> str:
    postgres.create_database(name, exist_ok=True)
    return postgres.dsn(name)


# Queries


async def _measure_queries(dsn: str, scale: Scale) -> list[Cost]:
    async with Database(DatabaseOptions(dsn), max_connections=2) as database:
        return [
            await _cost(name, call)
            for name, call in (
                *_run_lists(database, scale),
                *_step_lists(database, scale),
                *await _single(database, scale),
            )
        ]


def _run_lists(database: Database, scale: Scale) -> Iterator[tuple[str, Call]]:
    day = {
        "started_after": scale.moment(0.4),
        "started_before": scale.moment(0.4) + timedelta(days=1),
    }
    failed_mails: dict[str, Any] = {"status": ["failed"], "workflow_type": ["EmailCampaign"]}
    lists: dict[str, dict[str, Any]] = {
        "everything": {},
        "by ref": {"ref_type": "order", "ref_id": f"o-{scale.runs // 19}"},
        "by ref type": {"ref_type": "order"},
        "by status": {"status": ["failed"]},
        "running": {"status": ["running"]},
        "by type": {"workflow_type": ["OrderFulfilment"]},
        "by rare type": {"workflow_type": ["YearlyReport"]},
        "by status and type": failed_mails,
        "by status, type and day": {
            "status": ["failed"],
            "workflow_type": ["EmailCampaign"],
            **day,
        },
        "by day": day,
        "by finish": {"finished_before": scale.moment(0.4)},
        "by task queue": {"task_queue": "queue-1"},
        "by workflow id": {"workflow_id": "OrderFulfilment/o-0/1"},
        "by metadata": {"metadata": {"region": ["r-3"]}},
        "by metadata and status": {"metadata": {"region": ["r-0"]}, "status": ["failed"]},
        "by build": {"build_id": "build-7"},
        "by build and status": {"build_id": "build-7", "status": ["failed"]},
        "by failed step": {"failed_step": "charge"},
        "by failed step and type": {"failed_step": "charge", "workflow_type": ["OrderFulfilment"]},
        "retrying": {"retrying": True},
        "waiting on a timer": {"waiting_on": "timer"},
        "roots": {"roots_only": True},
        "longer than a second": {"min_duration": 1.0},
        "longer than an hour": {"min_duration": 3600.0},
        "longer than a second, by type": {"min_duration": 1.0, "workflow_type": ["YearlyReport"]},
    }
    for name, given in lists.items():
        first = RunFilter(**given)
        digest = list_digest("runs", NAMESPACE, first)
        middle = scale.moment(0.4 if "day" in name else 0.3)
        at = {"ordered_at": middle, "id": UUID(int=2**128 - 1)}
        deep = first.model_copy(update={"cursor": encode_cursor(at, digest)})
        yield f"runs {name}", partial(list_runs, database, NAMESPACE, first)
        yield f"runs {name}, deep", partial(list_runs, database, NAMESPACE, deep)


def _step_lists(database: Database, scale: Scale) -> Iterator[tuple[str, Call]]:
    # The data ages while it is kept.
    since = (datetime.now(UTC) - scale.moment(1)).total_seconds()
    steps: dict[str, dict[str, Any]] = {
        "everything": {},
        "by type": {"workflow_type": "EmailCampaign"},
        "by name and status": {"name": "charge", "status": ["failed"]},
        "by error type": {"error_type": "CardDeclined"},
        "by text of all": {"error_text": "declined card"},
        "by text of one": {"error_text": f'"o-{scale.runs // 20}"'},
        "of a day": {"failed_after": scale.moment(0.4), "failed_before": scale.moment(0.403)},
    }
    for name, given in steps.items():
        yield f"steps {name}", partial(failed_steps, database, NAMESPACE, StepFilter(**given))
    windows = {"hour": 3600.0, "day": 86_400.0, "month": 30 * 86_400.0}
    for name, window in windows.items():
        wide = since + window
        yield (
            f"failures of the last {name}",
            partial(failures, database, NAMESPACE, FailureFilter(window=wide)),
        )
        yield (
            f"stats of the last {name}",
            partial(workflow_stats, database, NAMESPACE, StatsFilter(window=wide)),
        )
    month = since + windows["month"]
    yield (
        "failures by text",
        partial(failures, database, NAMESPACE, FailureFilter(window=month, error_text="declined")),
    )
    of_type = StatsFilter(window=month, workflow_type="OrderFulfilment")
    yield "stats of a type", partial(workflow_stats, database, NAMESPACE, of_type)
    yield (
        "graph of a type",
        partial(workflow_graph, database, NAMESPACE, "OrderFulfilment", window=month),
    )


async def _single(database: Database, scale: Scale) -> list[tuple[str, Call]]:
    page = await list_runs(database, NAMESPACE, RunFilter(limit=1))
    ref = Ref("order", f"o-{scale.runs // 17}")
    by_ref = WorkflowFilter(ref_type=ref.ref_type, ref_id=ref.ref_id)
    by_type = WorkflowFilter(workflow_type=["YearlyReport"])
    singles: dict[str, Any] = {
        "a run with its steps": partial(run_detail, database, NAMESPACE, page.runs[0].run_id),
        "everything of a ref": partial(runs_by_ref, database, NAMESPACE, ref, Page()),
        "workflows": partial(list_workflows, database, NAMESPACE, WorkflowFilter()),
        "workflows by ref": partial(list_workflows, database, NAMESPACE, by_ref),
        "workflows by type": partial(list_workflows, database, NAMESPACE, by_type),
        "workflow types": partial(list_workflow_types, database, NAMESPACE),
        "stats of the tracker": partial(read_stats, database, NAMESPACE),
    }
    return list(singles.items())


async def _cost(name: str, call: Call) -> Cost:
    for _ in range(WARM_UP):
        await call()
    taken: list[float] = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    return Cost(name, taken[len(taken) // 2], taken[int(0.95 * (len(taken) - 1))])


# Recording


async def _measure_inserts(large: str, small: str) -> dict[str, float]:
    """Runs a second recorded beside many runs and beside few, in turns, and their ratio."""
    async with (
        dedicated(DatabaseOptions(large)) as beside_many,
        dedicated(DatabaseOptions(small)) as beside_few,
    ):
        missing = SMALL - await _count(beside_few)
        for _ in range(max(0, missing) // BATCH):
            await write_batch(beside_few, "flowtrail", fold(_batch()))
        many: list[float] = []
        few: list[float] = []
        for _ in range(ROUNDS + 1):
            few.append(await _rate(beside_few))
            many.append(await _rate(beside_many))
    ratios = [m / f for m, f in zip(many[1:], few[1:], strict=True)]
    return {
        "beside_many": statistics.median(many[1:]),
        "beside_few": statistics.median(few[1:]),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


async def _count(connection: Any) -> int:
    cursor = await connection.execute("SELECT count(*) AS runs FROM flowtrail.run")
    return (await cursor.fetchone())["runs"]


async def _rate(connection: Any) -> float:
    batches = [fold(_batch()) for _ in range(BATCHES)]
    began = time.perf_counter()
    for batch in batches:
        await write_batch(connection, "flowtrail", batch)
    return BATCHES * BATCH / (time.perf_counter() - began)


def _batch() -> list[TrackerEvent]:
    return [event for _ in range(BATCH) for event in _run()]


def _run() -> Iterator[TrackerEvent]:
    """What a worker tells of a run with two steps."""
    now, key = datetime.now(UTC), new_id()
    run = RunIdentity(
        id=derived_run_id(NAMESPACE, key, key),
        namespace=NAMESPACE,
        run_key=key,
        workflow_type="OrderFulfilment",
        workflow_id=f"OrderFulfilment/{key}",
        task_queue="queue-1",
        first_run_key=key,
        started_at=now,
        ref=Ref("order", f"new-{key}"),
    )
    value = store_json(b'[{"order_id":"o-1","amount":5}]', Handling(Treatment.FULL), "input")
    yield RunStarted(run=run, history_length=3, metadata={"region": "r-1"}, input=value)
    for number in (1, 2):
        step = StepIdentity(
            namespace=NAMESPACE, run_key=key, kind=StepKind.ACTIVITY, step_key=f"{number}@1",
            name="charge",
        )  # fmt: skip
        attempt = AttemptIdentity(step=step, number=1, started_at=now)
        yield AttemptStarted(attempt=attempt, type="charge", scheduled_at=now)
        yield AttemptEnded(
            attempt=attempt,
            outcome=AttemptOutcome.COMPLETED,
            finished_at=now,
            closes_step=StepStatus.COMPLETED,
        )
    yield RunClosed(run=run, history_length=17, status=RunStatus.COMPLETED, finished_at=now)


# Purge and sizes


def _measure_purge(dsn: str, scale: Scale) -> dict[str, float]:
    """Seconds of `flowtrail purge` for a month, after the incomplete one before it is gone. Two
    hours later, for runs that began in the month ended in the next; those of that time go one by
    one."""
    options, month = DatabaseOptions(dsn), Month.of(scale.first_at)
    later = timedelta(hours=2)
    purge(options, PurgeOrder(NAMESPACE, month.plus(1).start + later))
    began = time.perf_counter()
    report = purge(options, PurgeOrder(NAMESPACE, month.plus(2).start + later))
    seconds = time.perf_counter() - began
    assert report.partitions == [month.plus(1).partition], report
    for purged in (month, month.plus(1), month.plus(2)):
        restore_month(dsn, scale, purged)
    return {"seconds": seconds, "bytes": report.bytes}


async def _sizes(dsn: str) -> dict[str, tuple[int, int]]:
    """Bytes of each table with its partitions: of rows, and of indexes."""
    async with dedicated(DatabaseOptions(dsn)) as connection:
        cursor = await connection.execute(
            "SELECT regexp_replace(c.relname, '^payload_.*', 'payload') AS name,"
            " sum(pg_table_size(c.oid))::bigint AS rows, sum(pg_indexes_size(c.oid))::bigint AS"
            " indexes FROM pg_class c WHERE c.relnamespace = 'flowtrail'::regnamespace"
            " AND c.relkind = 'r' GROUP BY 1 ORDER BY sum(pg_total_relation_size(c.oid)) DESC"
        )
        rows = await cursor.fetchall()
    return {row["name"]: (row["rows"], row["indexes"]) for row in rows}


def _report(
    console: Console,
    scale: Scale,
    costs: list[Cost],
    inserts: dict[str, float],
    purged: dict[str, float],
    sizes: dict[str, tuple[int, int]],
) -> None:
    for table in _tables(scale, costs, inserts, purged, sizes):
        console.print(table)
    slowest = max(costs, key=lambda cost: cost.p95)
    total = sum(rows + indexes for rows, indexes in sizes.values())
    finish(
        "scale",
        {
            "runs": scale.runs,
            "p95_ms": {cost.name: round(cost.p95, 2) for cost in costs},
            "inserts": {name: round(value, 3) for name, value in inserts.items()},
            "purge": purged,
            "bytes_per_run": round(total / scale.runs),
        },
        [
            Bar(f"slowest query, p95 ({slowest.name})", slowest.p95, "most", QUERY_P95_MS, "ms"),
            Bar("recording beside many / few", inserts["ratio"], "least", INSERT_RATIO),
            Bar("purge of a month's values", purged["seconds"], "most", PURGE_SECONDS, "s"),
            Bar("database", total / 1e9 * 10_000_000 / scale.runs, "most", 30, "GB a 10 M runs"),
        ],
    )


def _tables(
    scale: Scale,
    costs: list[Cost],
    inserts: dict[str, float],
    purged: dict[str, float],
    sizes: dict[str, tuple[int, int]],
) -> Iterator[Table]:
    table = Table("query", "p50 ms", "p95 ms", title=f"{scale.runs:,} runs")
    for cost in costs:
        table.add_row(cost.name, f"{cost.p50:.2f}", f"{cost.p95:.2f}")
    yield table
    table = Table("recording beside", "runs/s")
    table.add_row(f"{scale.runs:,} runs", f"{inserts['beside_many']:.0f}")
    table.add_row(f"{SMALL:,} runs and more", f"{inserts['beside_few']:.0f}")
    spread = f"{inserts['lowest']:.2f}-{inserts['highest']:.2f}"
    table.add_row("ratio", f"{inserts['ratio']:.2f} ({spread})")
    yield table
    table = Table("table", "bytes a run", "of them indexes")
    for name, (rows, indexes) in sizes.items():
        if rows + indexes >= scale.runs:
            table.add_row(
                name, f"{(rows + indexes) / scale.runs:.0f}", f"{indexes / scale.runs:.0f}"
            )
    yield table
    table = Table("purge of a month", "")
    table.add_row("seconds", f"{purged['seconds']:.2f}")
    table.add_row("bytes", f"{purged['bytes'] / 1e6:.0f} MB")
    yield table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a million runs, about five minutes")
    parser.add_argument("--runs", type=int, help="as many as this")
    parser.add_argument("--folder", type=Path, help="where the database stays between calls")
    arguments = parser.parse_args()
    count = arguments.runs or (1_000_000 if arguments.quick else 10_000_000)
    kept = arguments.folder or Path(tempfile.gettempdir()) / f"flowtrail-scale-{count}"
    uvloop.run(main(count, kept))
