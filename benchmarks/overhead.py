"""What tracking costs: the same workflow with and without the plugin, in alternating segments.

All workers stay alive on one tuned server and take turns in short segments, so drift of the machine
hits every side alike. Two of them are untracked: a round's tracked segments are compared with the
mean of both, and where the two differ by more than 7 % over the whole run, the run is void.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
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
from tracker.feed.entries import Interest
from tracker.feed.feed import Feed, Subscription
from tracker.feed.mailbox import Delivery, Mailbox
from tracker.feed.sequencer import Sequencer
from tracker.migrations import migrate
from tracker.models.feed import ChangeFilter
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.plugin import TrackerPlugin

STEPS = 3
SIDES = ("untracked", "null", "durable", "buffered")
FEED = "feed"
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


FULL = Sizes(rounds=24, busy=80, single=12)
QUICK = Sizes(rounds=4, busy=60, single=8)
RESAMPLES = 1000
"""Of the bootstrap that gives a median its interval."""


@dataclass
class Measured:
    """Per side, one value a segment."""

    throughput: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])
    latency: list[float] = field(default_factory=list[float])


async def main(sizes: Sizes, *, watched: bool) -> None:
    """Run the benchmark and end the program.

    Args:
        watched: Whether somebody follows the live feed of everything meanwhile.
    """
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
            if watched:
                await stack.enter_async_context(_worker(FEED, dsn, temporal.address, folder))
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


async def watch() -> None:
    """What an API process does with one watcher of everything: order changes, read them, encode
    each for its connection."""
    async with Database(DatabaseOptions(os.environ["BENCH_DSN"])) as database:
        feed = Feed(database, "default")
        sequencer = Sequencer(database.options, keep_seconds=3600)
        tasks = [asyncio.create_task(feed.run()), asyncio.create_task(sequencer.run())]
        mailbox = Mailbox(feed)
        mailbox.add(Subscription(Interest("default", ChangeFilter()), 0, mailbox))
        while not any(task.done() for task in tasks):
            item = await mailbox.take(1.0)
            if isinstance(item, Delivery):
                item.entry.text.encode()


async def serve(side: Side) -> None:
    """The worker process of one side."""
    if side == FEED:
        await watch()
        return
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
    found = {side: _compared(measured, side) for side in SIDES}
    table = Table(
        "side", "workflows/s", "ratio", "CPU ms/wf", "ratio", "ms at c=1", "ms per step",
        title=f"{sizes.rounds} segments a side: {sizes.busy} workflows at c={sizes.concurrency}, "
        f"{sizes.single} at c=1; median of rounds [90 % of resampled medians]",
    )  # fmt: skip
    for side, compared in found.items():
        table.add_row(
            side,
            f"{statistics.median(measured[side].throughput):.1f}",
            _shown(compared.throughput, ".3f"),
            f"{statistics.median(measured[side].cpu) * 1000:.1f}",
            _shown(compared.cpu, ".3f"),
            f"{statistics.median(measured[side].latency) * 1000:.1f}",
            _shown(compared.ms_per_step, "+.2f"),
        )
    Console(width=120).print(table)
    _finish(found, events, replayed)


@dataclass(frozen=True)
class Compared:
    """A side against the mean of the untracked ones, one value a round."""

    throughput: list[float]
    cpu: list[float]
    ms_per_step: list[float]


def _compared(measured: dict[Side, Measured], side: Side) -> Compared:
    # The null is compared with the other untracked worker: with itself it would look too good.
    bases = [measured["untracked"], measured["untracked" if side == "null" else "null"]]
    mine = measured[side]
    throughput = [statistics.harmonic_mean(pair) for pair in _pairs(bases, "throughput")]
    cpu = [statistics.mean(pair) for pair in _pairs(bases, "cpu")]
    latency = [statistics.mean(pair) for pair in _pairs(bases, "latency")]
    return Compared(
        [a / b for a, b in zip(mine.throughput, throughput, strict=True)],
        [a / b for a, b in zip(mine.cpu, cpu, strict=True)],
        [(a - b) * 1000 / STEPS for a, b in zip(mine.latency, latency, strict=True)],
    )


def _pairs(bases: Sequence[Measured], what: str) -> list[tuple[float, ...]]:
    return list(zip(*(getattr(base, what) for base in bases), strict=True))


def _finish(found: dict[Side, Compared], events: dict[Side, int], replayed: int) -> None:
    median = statistics.median
    durable, null = found["durable"], median(found["null"].throughput)
    void = None
    if not NULL_RANGE[0] <= null <= NULL_RANGE[1]:
        void = f"two untracked workers differ by a factor of {null:.3f}"
    figures: dict[str, object] = {
        side: {
            "throughput_ratio": _with_interval(compared.throughput),
            "cpu_ratio": _with_interval(compared.cpu),
            "ms_per_step": _with_interval(compared.ms_per_step),
        }
        for side, compared in found.items()
    }
    finish(
        "overhead",
        figures | {"null_ratio": round(null, 3), "history_events": events},
        [
            Bar("throughput, durable / untracked", median(durable.throughput), "least", 0.80),
            Bar("worker CPU, durable / untracked", median(durable.cpu), "most", 1.30),
            Bar("added per step at c=1", median(durable.ms_per_step), "most", 5.0, "ms"),
            Bar("added history events", abs(events["durable"] - events["untracked"]), "most", 0),
            Bar("rows recorded by a replay", replayed, "most", 0),
        ],
        void=void,
    )


def _with_interval(values: Sequence[float]) -> list[float]:
    low, high = _interval(values)
    return [round(number, 3) for number in (statistics.median(values), low, high)]


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Where 90 % of the medians of resampled rounds lie."""
    draw = random.Random(0)
    medians = sorted(
        statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    return medians[RESAMPLES // 20], medians[-RESAMPLES // 20]


def _shown(values: Sequence[float], form: str) -> str:
    low, high = _interval(values)
    return f"{statistics.median(values):{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"at most a minute: {QUICK} instead of {FULL}"
    )
    parser.add_argument(
        "--watched", action="store_true", help="somebody follows the live feed meanwhile"
    )
    parser.add_argument("--serve", choices=(*SIDES, FEED), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
    else:
        asyncio.run(main(QUICK if given.quick else FULL, watched=given.watched))
