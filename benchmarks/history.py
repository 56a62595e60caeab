"""What keeping the tables true costs: projecting histories, comparing with them, and how late and
how dear the reconciler is.

"On one core" is counted by CPU seconds of this process: Temporal and Postgres have theirs beside
it.
Lag is taken from two rows' own times, the database's and Temporal's, which share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psutil
from rich.console import Console
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from benchmarks.report import Bar, finish
from benchmarks.three_steps import ITEM, ThreeSteps, echo
from tracker.core.fold import fold
from tracker.core.payloads import PayloadPolicy
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.migrations import migrate
from tracker.store.database import Database, DatabaseOptions
from tracker.store.recorded_runs import RunChoice
from tracker.temporal.history import project
from tracker.temporal.projector import Projector
from tracker.temporal.reconcile import Reconciler
from tracker.temporal.verify import Verification

NAMESPACE = "default"
FETCHED_AT_ONCE = 8
console = Console()


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        runs: Closed runs that are projected and verified.
        rounds: Repetitions of which the median counts.
        terminated: Runs terminated while the reconciler works.
        idle: Seconds of doing nothing.
    """

    runs: int
    rounds: int
    terminated: int
    idle: float


FULL = Sizes(runs=1000, rounds=5, terminated=300, idle=60.0)
QUICK = Sizes(runs=150, rounds=3, terminated=60, idle=10.0)


async def main(sizes: Sizes) -> None:
    """Run the benchmark and end the program."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres.start(Path(folder) / "postgres") as postgres,
        EmbeddedTemporal.start(headless=True) as temporal,
    ):
        postgres.create_database("bench")
        dsn = postgres.dsn("bench")
        await asyncio.to_thread(migrate, dsn)
        client = await Client.connect(temporal.address)
        async with Database(DatabaseOptions(dsn)) as database:
            idle = await idle_cost(client, database, temporal, sizes)
            handles = await closed_runs(client, sizes.runs)
            history = list((await handles[0].fetch_history()).events)
            projected = projection_rate(history, sizes)
            stored, stored_wall = await store_rate(client, database, handles, len(history))
            verified = await verify_seconds(client, database, sizes)
            lag = await reconcile_lag(client, database, sizes)
    figures = {
        "history_events": len(history),
        "projected_per_cpu_second": projected,
        "stored_per_cpu_second": stored,
        "stored_per_second": stored_wall,
        "verify_seconds": verified,
        "lag_p50": statistics.median(lag),
        "lag_p99": percentile(lag, 0.99),
        "idle_core": idle,
    }
    bars = [
        Bar("history events projected", projected, "least", 40_000, "/ CPU s"),
        Bar("with fetch and store", stored, "least", 8_000, "/ CPU s"),
        Bar("verify, per 1,000 closed runs", verified, "most", 8.0, "s"),
        Bar("reconcile lag p99", percentile(lag, 0.99), "most", 5.0, "s"),
        Bar("idle reconciler, server included", idle * 100, "most", 1.0, "% of a core"),
    ]
    finish("history", figures, bars)


async def closed_runs(client: Client, count: int) -> list[WorkflowHandle[ThreeSteps, object]]:
    """Runs that nobody recorded."""
    queue = uuid4().hex
    async with Worker(client, task_queue=queue, workflows=[ThreeSteps], activities=[echo]):
        handles: list[WorkflowHandle[ThreeSteps, object]] = []
        for start in range(0, count, 50):
            part = [
                await client.start_workflow(
                    ThreeSteps.run, ITEM, id=f"closed-{n}", task_queue=queue
                )
                for n in range(start, min(start + 50, count))
            ]
            await asyncio.gather(*(handle.result() for handle in part))
            handles += part
    return handles


def projection_rate(history: Sequence[HistoryEvent], sizes: Sizes) -> float:
    """History events per CPU second, from protobuf to rows, in memory."""
    policy = PayloadPolicy().resolved(has_codec=False)
    rates: list[float] = []
    for _ in range(sizes.rounds):
        begun = time.process_time()
        for n in range(sizes.runs):
            told = project(
                history,
                namespace=NAMESPACE,
                workflow_id="closed",
                run_key=UUID(int=n),
                policy=policy,
                projected_at=datetime.now(UTC),
            )
            fold(told)
        rates.append(sizes.runs * len(history) / (time.process_time() - begun))
    return statistics.median(rates)


async def store_rate(
    client: Client,
    database: Database,
    handles: Sequence[WorkflowHandle[ThreeSteps, object]],
    length: int,
) -> tuple[float, float]:
    """History events fetched, projected and stored, per CPU second of ours and per second."""
    room = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def one(projector: Projector, handle: WorkflowHandle[ThreeSteps, object]) -> None:
        async with room:
            run_key = UUID(handle.first_execution_run_id)
            assert await projector.project_run(handle.id, run_key)

    async with Projector(client, database) as projector:
        begun, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one(projector, handle) for handle in handles))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
    return len(handles) * length / cpu, len(handles) * length / wall


async def verify_seconds(client: Client, database: Database, sizes: Sizes) -> float:
    """Seconds per 1,000 closed runs, none of which differs."""
    times: list[float] = []
    for _ in range(sizes.rounds):
        begun = time.perf_counter()
        report = await Verification(client, database, RunChoice(NAMESPACE)).run()
        times.append((time.perf_counter() - begun) / report.runs * 1000)
        assert report.different == 0, report.found[:1]
        assert report.runs == sizes.runs
    return statistics.median(times)


async def reconcile_lag(client: Client, database: Database, sizes: Sizes) -> list[float]:
    """Seconds from the close of each terminated run to its projection."""
    handles = [
        await client.start_workflow("Any", id=f"t-{n}", task_queue=uuid4().hex)
        for n in range(sizes.terminated)
    ]
    async with reconciling(client, database):
        for handle in handles:
            await handle.terminate()
            await asyncio.sleep(10.0 / sizes.terminated)
        sql = database.sql(
            "SELECT extract(epoch FROM projected_at - finished_at)::float8 AS lag"
            " FROM {schema}.run WHERE status = 'terminated'"
        )
        async with asyncio.timeout(60):
            while True:
                async with database.connection() as connection:
                    rows = await (await connection.execute(sql)).fetchall()
                if len(rows) == len(handles):
                    return [row["lag"] for row in rows]
                await asyncio.sleep(0.2)


async def idle_cost(
    client: Client, database: Database, temporal: EmbeddedTemporal, sizes: Sizes
) -> float:
    """Cores that a reconciler with nothing to do takes, in this process and in Temporal's."""
    server, own = psutil.Process(temporal.pid), psutil.Process()

    async def cores() -> float:
        before = cpu_seconds(server) + cpu_seconds(own)
        await asyncio.sleep(sizes.idle)
        return (cpu_seconds(server) + cpu_seconds(own) - before) / sizes.idle

    await asyncio.sleep(5)  # Temporal has just started.
    without = await cores()
    async with reconciling(client, database):
        await asyncio.sleep(2)
        busy = await cores()
    console.print(f"idle: {without:.4f} cores without, {busy:.4f} with a reconciler")
    return max(0.0, busy - without)


@asynccontextmanager
async def reconciling(client: Client, database: Database) -> AsyncIterator[None]:
    """A reconciler as it is by default, after its first round."""
    async with Reconciler(client, database.options) as reconciler:
        for _ in range(200):
            if reconciler.counters.rounds:
                break
            await asyncio.sleep(0.05)
        yield


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time so far."""
    times = process.cpu_times()
    return times.user + times.system


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so much of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of five")
    asyncio.run(main(QUICK if parser.parse_args().quick else FULL))
