"""How quickly changes reach those who watch, and what a watcher costs.

    python -m benchmarks.live [--quick]

One API process, one PostgreSQL, 200 changes a second, 500 WebSockets: 490 on one ref each and 10 on
everything, then all 500 on everything. Each latency runs from the commit to the moment at which the
frame is in the client's hands; clients, writer, API and database share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.raw_http import connected
from benchmarks.report import Bar, finish
from tracker.core.events import RunIdentity, RunMetadataSet, RunStarted
from tracker.core.fold import fold
from tracker.core.ids import Ref, derived_run_id, new_id
from tracker.embedded.ports import free_port
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.migrations import migrate
from tracker.store.database import DEFAULT_SCHEMA, AsyncConnection, DatabaseOptions, dedicated
from tracker.store.record import write_batch

RATE = 200
SOCKETS = 500
ON_EVERYTHING = 10
NAMESPACE = "default"
P50_MS, P99_MS = 20.0, 100.0
CATCH_UP = 60.0
"""Seconds that watchers get to take what they were too slow for."""
SETTLED = 3.0
"""Seconds for which nobody changes anything while memory is read."""


@dataclass
class Watcher:
    """One socket and what it received."""

    socket: ClientConnection
    everything: bool
    seqs: list[int] = field(default_factory=list[int])


@dataclass
class Round:
    """One constellation of watchers."""

    name: str
    first_event: int
    watchers: list[Watcher] = field(default_factory=list[Watcher])
    committed: dict[int, float] = field(default_factory=dict[int, float])
    latencies: list[float] = field(default_factory=list[float])
    written: int = 0
    idle_bytes: int = 0

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        return statistics.quantiles(self.latencies, n=100)[percent - 1]


async def measure(seconds: float, console: Console) -> None:
    """Run everything and print it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowtrail-")))
        postgres = stack.enter_context(EmbeddedPostgres.start(folder, durable=True))
        postgres.create_database("live")
        dsn = postgres.dsn("live")
        await asyncio.to_thread(migrate, dsn)
        api = await stack.enter_async_context(api_process(dsn, folder))
        writer = await stack.enter_async_context(dedicated(DatabaseOptions(dsn)))
        runs = [await begin(writer, number) for number in range(SOCKETS)]
        before = memory(api.pid)
        mixed = await play(
            "490 on one ref, 10 on everything", ON_EVERYTHING, api, writer, runs, seconds
        )
        await leave(mixed)
        everyone = await play("500 on everything", SOCKETS, api, writer, runs, 10.0)
        await leave(everyone)
    per_socket = (mixed.idle_bytes - before) / SOCKETS
    show(console, (mixed, everyone), per_socket)
    finish(
        "live",
        {
            "p50_ms": round(mixed.percentile(50), 2),
            "p99_ms": round(mixed.percentile(99), 2),
            "everyone_p50_ms": round(everyone.percentile(50), 2),
            "everyone_p99_ms": round(everyone.percentile(99), 2),
            "changes": mixed.written,
            "deliveries": len(mixed.latencies),
            "kb_per_idle_socket": round(per_socket / 1024, 1),
        },
        [
            Bar("commit to client, p50", mixed.percentile(50), "most", P50_MS, "ms"),
            Bar("commit to client, p99", mixed.percentile(99), "most", P99_MS, "ms"),
            Bar("missing or doubled", amiss(mixed), "most", 0),
        ],
    )


@dataclass(frozen=True)
class Api:
    """The API's process."""

    pid: int
    port: int


@asynccontextmanager
async def api_process(dsn: str, folder: Path) -> AsyncGenerator[Api]:
    """The API on its own, without keys and without Temporal."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tracker.cli", "api",
        stderr=(folder / "api.log").open("wb"),
        env={
            **os.environ, "FLOWTRAIL_DATABASE_URL": dsn, "FLOWTRAIL_API_PORT": str(port),
            "FLOWTRAIL_AUTH": "off", "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
            "TEMPORAL_NAMESPACE": NAMESPACE,
        },
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            while not await _is_up(port):  # noqa: ASYNC110 - another process comes up
                await asyncio.sleep(0.05)
        yield Api(process.pid, port)
    finally:
        process.terminate()
        await process.wait()


async def _is_up(port: int) -> bool:
    try:
        async with connected(port) as http:
            return (await http.request("GET", "/healthz"))[0] == 200
    except ConnectionError:
        return False


async def begin(writer: AsyncConnection, number: int) -> RunIdentity:
    """A running run with a ref of its own."""
    run_key = new_id()
    run = RunIdentity(
        id=derived_run_id(NAMESPACE, run_key, run_key),
        namespace=NAMESPACE,
        run_key=run_key,
        workflow_type="Bench",
        workflow_id=f"bench-{number}",
        task_queue="bench",
        first_run_key=run_key,
        started_at=await _now(writer),
        ref=Ref("order", f"o-{number}"),
    )
    started = RunStarted(run=run, history_length=3)
    await write_batch(writer, DEFAULT_SCHEMA, fold([started]), announce=False)
    return run


async def _now(writer: AsyncConnection) -> Any:
    cursor = await writer.execute("SELECT now() AS at")
    row = await cursor.fetchone()
    assert row is not None
    return row["at"]


async def play(
    name: str,
    on_everything: int,
    api: Api,
    writer: AsyncConnection,
    runs: Sequence[RunIdentity],
    seconds: float,
) -> Round:
    """Connect everybody, change something 200 times a second, and see it arrive."""
    played = Round(name, first_event=10 if on_everything < SOCKETS else 1_000_000)
    for number in range(SOCKETS):
        socket = await connect(f"ws://127.0.0.1:{api.port}/v1/ws", max_queue=None)
        everything = number < on_everything
        ref = {"ref_type": "order", "ref_id": f"o-{number}"}
        filters = {} if everything else ref
        asked = {"type": "subscribe", "id": "w", "filters": filters, "snapshot": 0}
        await socket.send(json.dumps(asked))
        await socket.recv()
        played.watchers.append(Watcher(socket, everything))
    readers = [asyncio.create_task(_read(played, watcher)) for watcher in played.watchers]
    await asyncio.sleep(1.0)
    played.idle_bytes = memory(api.pid)
    await _change(played, writer, runs, seconds)
    await asyncio.sleep(SETTLED)
    with suppress(TimeoutError):
        async with asyncio.timeout(CATCH_UP):
            while amiss(played):  # noqa: ASYNC110 - what arrives is counted elsewhere
                await asyncio.sleep(1.0)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return played


async def _read(played: Round, watcher: Watcher) -> None:
    while True:
        frame = json.loads(await watcher.socket.recv())
        now = time.perf_counter()
        if frame["type"] != "change":
            continue
        watcher.seqs.append(frame["change"]["seq"])
        number = frame["change"]["run"]["metadata"]["n"]
        # A frame may arrive before the writer has heard of its commit.
        played.latencies.append(1000 * max(0.0, now - played.committed.get(number, now)))


async def _change(
    played: Round, writer: AsyncConnection, runs: Sequence[RunIdentity], seconds: float
) -> None:
    began = time.perf_counter()
    for number in range(round(RATE * seconds)):
        due = began + number / RATE
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        run = runs[number % len(runs)]
        told = RunMetadataSet(
            run=run, history_length=played.first_event + number, metadata={"n": number}
        )
        await write_batch(writer, DEFAULT_SCHEMA, fold([told]))
        played.committed[number] = time.perf_counter()
        played.written += 1


def amiss(played: Round) -> int:
    """Changes that a socket did not get, or got twice."""
    wrong = 0
    for number, watcher in enumerate(played.watchers):
        due = played.written
        if not watcher.everything:
            due = len(range(number, played.written, SOCKETS))
        wrong += abs(len(set(watcher.seqs)) - due) + len(watcher.seqs) - len(set(watcher.seqs))
    return wrong


async def leave(played: Round) -> None:
    """Disconnect everybody."""
    await asyncio.gather(*(watcher.socket.close() for watcher in played.watchers))


def memory(pid: int) -> int:
    """Bytes of a process's own."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def show(console: Console, rounds: Sequence[Round], per_socket: float) -> None:
    """Print what was measured."""
    table = Table(
        "sockets", "changes", "deliveries", "p50 ms", "p95 ms", "p99 ms", "amiss",
        title=f"live: {RATE} changes/s",
    )  # fmt: skip
    for played in rounds:
        table.add_row(
            played.name,
            f"{played.written:,}",
            f"{len(played.latencies):,}",
            *(f"{played.percentile(percent):.1f}" for percent in (50, 95, 99)),
            str(amiss(played)),
        )
    console.print(table)
    console.print(f"memory of the API per idle socket: {per_socket / 1024:.0f} KB")


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 s instead of 60 s each")
    quick: bool = parser.parse_args().quick
    uvloop.run(measure(10.0 if quick else 60.0, Console(stderr=True)))


if __name__ == "__main__":
    main()
