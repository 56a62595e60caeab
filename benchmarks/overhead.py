"""What tracking costs: the same workflow with and without the plugin, in alternating segments.

All workers stay alive on one tuned server, so drift of the machine hits every side alike. A second
untracked worker is the null: if two equal workers differ by more than 7 %, the run is void.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from rich.console import Console
from rich.table import Table
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, Worker

from benchmarks.report import Bar, finish
from benchmarks.three_steps import ITEM, ThreeSteps, echo
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.migrations import migrate
from tracker.temporal.plugin import TrackerPlugin

STEPS = 3
SIDES = ("untracked", "null", "durable", "buffered")
NULL_RANGE = (0.93, 1.07)
Side = str


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        rounds: Segments of each side.
        busy: Workflows in a segment at `concurrency`.
        single: Workflows in a segment at concurrency 1.
    """

    rounds: int
    busy: int
    single: int
    concurrency: int = 50


FULL = Sizes(rounds=8, busy=200, single=40)
QUICK = Sizes(rounds=3, busy=100, single=15)


@dataclass
class Measured:
    """Per side, one value a segment."""

    throughput: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])
    latency: list[float] = field(default_factory=list[float])


async def main(sizes: Sizes) -> None:
    """Run the benchmark and end the program."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres.start(Path(folder) / "postgres") as postgres,
        EmbeddedTemporal.start(headless=True) as temporal,
    ):
        postgres.create_database("overhead")
        dsn = postgres.dsn("overhead")
        migrate(dsn)
        client = await Client.connect(temporal.address)
        async with AsyncExitStack() as stack:
            workers = {
                side: await stack.enter_async_context(_worker(side, dsn, temporal.address, folder))
                for side in SIDES
            }
            measured = await _measure(client, workers, sizes)
            histories = {side: await _history(client, side) for side in ("untracked", "durable")}
        events = {side: len(history.events) for side, history in histories.items()}
        replayed = await _rows_recorded_by_replay(dsn, histories["durable"])
    _report(sizes, measured, events, replayed)


@asynccontextmanager
async def _worker(
    side: Side, dsn: str, address: str, folder: str
) -> AsyncGenerator[psutil.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.overhead", "--serve", side,
        env={**os.environ, "BENCH_DSN": dsn, "BENCH_ADDRESS": address, "BENCH_SPILL": folder},
    )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def serve(side: Side) -> None:
    """The worker process of one side."""
    durability = {"durable": "awaited", "buffered": "buffered"}.get(side)
    plugins = []
    if durability is not None:
        plugins.append(
            TrackerPlugin(
                os.environ["BENCH_DSN"],
                durability=durability,  # pyright: ignore[reportArgumentType]
                spill_dir=os.environ["BENCH_SPILL"],
            )
        )
    client = await Client.connect(os.environ["BENCH_ADDRESS"], plugins=plugins)
    async with Worker(client, task_queue=side, workflows=[ThreeSteps], activities=[echo]):
        await asyncio.Event().wait()


async def _measure(
    client: Client, workers: dict[Side, psutil.Process], sizes: Sizes
) -> dict[Side, Measured]:
    measured = {side: Measured() for side in SIDES}
    for side in SIDES:  # Warm up: imports, caches, the first connections.
        await _segment(client, side, 20, 10)
    for number in range(sizes.rounds):
        # Each round in another order, so that no side always follows the same one.
        for side in (*SIDES[number % 4 :], *SIDES[: number % 4]):
            before, began = _cpu(workers[side]), time.perf_counter()
            await _segment(client, side, sizes.busy, sizes.concurrency)
            took = time.perf_counter() - began
            measured[side].throughput.append(sizes.busy / took)
            measured[side].cpu.append((_cpu(workers[side]) - before) / sizes.busy)
        for side in (*SIDES[number % 4 :], *SIDES[: number % 4]):
            latencies = await _segment(client, side, sizes.single, 1)
            measured[side].latency.append(statistics.median(latencies))
    return measured


async def _segment(client: Client, side: Side, count: int, concurrency: int) -> list[float]:
    """Run workflows, so many at once; seconds from start to result of each."""
    slots = asyncio.Semaphore(concurrency)

    async def one() -> float:
        async with slots:
            began = time.perf_counter()
            await client.execute_workflow(
                ThreeSteps.run, ITEM, id=f"{side}-{uuid.uuid4()}", task_queue=side
            )
            return time.perf_counter() - began

    return await asyncio.gather(*(one() for _ in range(count)))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _history(client: Client, side: Side) -> WorkflowHistory:
    handle = await client.start_workflow(ThreeSteps.run, ITEM, id=f"h-{side}", task_queue=side)
    await handle.result()
    return await handle.fetch_history()


async def _rows_recorded_by_replay(dsn: str, history: WorkflowHistory) -> int:
    before = await _rows(dsn)
    plugin = TrackerPlugin(dsn)
    await Replayer(workflows=[ThreeSteps], plugins=[plugin]).replay_workflow(history)
    return await _rows(dsn) - before


async def _rows(dsn: str) -> int:
    query = """SELECT (SELECT count(*) FROM flowtrail.run) + (SELECT count(*) FROM flowtrail.step)
                    + (SELECT count(*) FROM flowtrail.attempt)"""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


def _report(
    sizes: Sizes, measured: dict[Side, Measured], events: dict[Side, int], replayed: int
) -> None:
    base = measured["untracked"]
    table = Table(
        "side", "workflows/s", "ratio", "CPU ms/wf", "ratio", "ms at c=1", "ms per step",
        title=f"{sizes.rounds} segments a side: {sizes.busy} workflows at c={sizes.concurrency}, "
        f"{sizes.single} at c=1; ratio = median of pairs [min-max]",
    )  # fmt: skip
    figures: dict[str, object] = {}
    for side in SIDES:
        found = measured[side]
        speed = _ratios(found.throughput, base.throughput)
        cpu = _ratios(found.cpu, base.cpu)
        per_step = [
            (mine - theirs) * 1000 / STEPS
            for mine, theirs in zip(found.latency, base.latency, strict=True)
        ]
        table.add_row(
            side,
            f"{statistics.median(found.throughput):.1f}",
            _interval(speed),
            f"{statistics.median(found.cpu) * 1000:.1f}",
            _interval(cpu),
            f"{statistics.median(found.latency) * 1000:.1f}",
            f"{statistics.median(per_step):+.2f} [{min(per_step):+.2f}, {max(per_step):+.2f}]",
        )
        figures[side] = {
            "throughput_ratio": round(statistics.median(speed), 3),
            "cpu_ratio": round(statistics.median(cpu), 3),
            "ms_per_step": round(statistics.median(per_step), 3),
        }
    Console(width=120).print(table)
    _finish(measured, figures, events, replayed)


def _finish(
    measured: dict[Side, Measured],
    figures: dict[str, object],
    events: dict[Side, int],
    replayed: int,
) -> None:
    base, durable = measured["untracked"], measured["durable"]
    null = statistics.median(_ratios(measured["null"].throughput, base.throughput))
    speed = statistics.median(_ratios(durable.throughput, base.throughput))
    cpu = statistics.median(_ratios(durable.cpu, base.cpu))
    pairs = zip(durable.latency, base.latency, strict=True)
    per_step = statistics.median((mine - theirs) * 1000 / STEPS for mine, theirs in pairs)
    void = None
    if not NULL_RANGE[0] <= null <= NULL_RANGE[1]:
        void = f"two untracked workers differ by a factor of {null:.3f}"
    finish(
        "overhead",
        figures | {"null_ratio": round(null, 3), "history_events": events},
        [
            Bar("throughput, durable / untracked", speed, "least", 0.80),
            Bar("worker CPU, durable / untracked", cpu, "most", 1.30),
            Bar("added per step at c=1", per_step, "most", 5.0, "ms"),
            Bar("added history events", abs(events["durable"] - events["untracked"]), "most", 0),
            Bar("rows recorded by a replay", replayed, "most", 0),
        ],
        void=void,
    )


def _ratios(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(mine, theirs, strict=True)]


def _interval(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} [{min(ratios):.2f}-{max(ratios):.2f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"at most a minute: {QUICK} instead of {FULL}"
    )
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
    else:
        asyncio.run(main(QUICK if given.quick else FULL))
