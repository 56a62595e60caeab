"""What reading and starting cost beside a million runs: pages of lists, answers by reference over
HTTP, and starts over HTTP against the same starts by Temporal's own client.

A page counts all its statements. First and deep pages are measured, and filters that many, few or
only the oldest runs pass: where a plan that looks good on the first page of a usual value fails.
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
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from benchmarks.many_runs import load, moment
from benchmarks.raw_http import RawHttp, connected
from benchmarks.report import Bar, finish
from tracker.embedded.ports import free_port
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.migrations import migrate
from tracker.models.filters import RunFilter
from tracker.store import keys
from tracker.store.cursors import encode_cursor, list_digest
from tracker.store.database import Database, DatabaseOptions
from tracker.store.run_queries import list_runs

NAMESPACE = "default"
PAGE_P95_MS = 10.0
PAGE_BUFFERS = 2000
GET_P50_MS = 1.0
START_RATIO = 0.60
ONE, MANY = 1, 20
"""Starts at once. The bar is on many, where throughput is compared; with one, each hop between
processes counts, of which the facade makes eight and the client alone two."""
WARM_UP = 10
"""Calls before a page is measured: Postgres settles on a plan after five."""


@dataclass(frozen=True)
class Sizes:
    """How much is loaded and asked.

    Attributes:
        pages: Times each page is asked for.
        gets: Requests by reference.
        rounds: Pairs of start segments.
        starts: Starts in a segment.
    """

    name: str
    runs: int
    pages: int
    gets: int
    rounds: int
    starts: int


FULL = Sizes("full", runs=1_000_000, pages=200, gets=2000, rounds=10, starts=100)
QUICK = Sizes("quick", runs=200_000, pages=60, gets=500, rounds=6, starts=100)


@dataclass(frozen=True)
class Asked:
    """A list to ask for.

    Attributes:
        deep: Share of all runs before which the deep page starts, where newest comes first.
    """

    name: str
    filters: dict[str, Any]
    deep: float = 0.5


@dataclass(frozen=True)
class Page:
    """What a page cost."""

    name: str
    rows: int
    p50: float
    p95: float
    buffers: int


async def main(sizes: Sizes) -> None:
    """Run the benchmark and end the program."""
    console = Console()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres.start(Path(folder) / "postgres", durable=False) as postgres,
        EmbeddedTemporal.start(headless=True) as temporal,
    ):
        postgres.create_database("queries")
        dsn = postgres.dsn("queries")
        migrate(dsn)
        console.print(f"loading {sizes.runs:,} runs")
        load(dsn, sizes.runs)
        pages = await _measure_pages(dsn, sizes)
        async with _api(dsn, temporal.address) as (port, secret):
            gets = await _measure_gets(port, secret, sizes)
            starts = await _measure_starts(port, secret, temporal.address, sizes)
    _report(console, sizes, pages, gets, starts)


def _lists(count: int) -> list[Asked]:
    day = {"started_after": moment(0.4, count), "started_before": moment(0.4, count + 8640)}
    return [
        Asked("everything", {}),
        Asked("by ref", {"ref_type": "order", "ref_id": f"o-{count // 7}"}),
        Asked("by a ref of half of all", {"ref_type": "tenant", "ref_id": "t-1"}),
        Asked("by ref type", {"ref_type": "order"}),
        Asked("by status", {"status": ["failed"]}),
        Asked("by type", {"workflow_type": ["OrderFulfilment"]}),
        Asked("by rare type", {"workflow_type": ["YearlyReport"]}),
        Asked("by status and type", {"status": ["failed"], "workflow_type": ["OrderFulfilment"]}),
        Asked(
            "by status, type and time",
            {"status": ["failed", "timed_out"], "workflow_type": ["OrderFulfilment"], **day},
            deep=0.4,
        ),
        Asked("by time", day, deep=0.4),
        Asked("by finish", {"finished_before": moment(0.4, count)}, deep=0.2),
        Asked("by task queue", {"task_queue": "queue-1"}),
        Asked("metadata of 50 %", {"metadata": {"half": ["yes"]}}),
        Asked("metadata of the oldest 5 %", {"metadata": {"oldest": ["yes"]}}, deep=0.025),
        Asked("metadata of 0.1 %", {"metadata": {"rare": ["yes"]}}),
        Asked("metadata of one run", {"metadata": {"single": ["yes"]}}),
        Asked("metadata of 50 % and status", {"metadata": {"half": ["yes"]}, "status": ["failed"]}),
        Asked(
            "metadata of the oldest 5 % and of 50 %",
            {"metadata": {"oldest": ["yes"], "half": ["yes"]}},
            deep=0.025,
        ),
        Asked(
            "metadata of the oldest 5 %, running",
            {"metadata": {"oldest": ["yes"]}, "status": ["running"]},
        ),
    ]


async def _measure_pages(dsn: str, sizes: Sizes) -> list[Page]:
    # One connection, which reports what it touched when asked.
    async with Database(DatabaseOptions(dsn), max_connections=1) as database:
        measured: list[Page] = []
        for asked in _lists(sizes.runs):
            first = RunFilter(**asked.filters)
            digest = list_digest("runs", NAMESPACE, first)
            at = {"ordered_at": moment(asked.deep, sizes.runs), "id": uuid.UUID(int=2**128 - 1)}
            deep = first.model_copy(update={"cursor": encode_cursor(at, digest)})
            for name, filters in ((asked.name, first), (f"{asked.name}, deep", deep)):
                measured.append(await _measure_page(database, name, filters, sizes.pages))
        return measured


async def _measure_page(database: Database, name: str, filters: RunFilter, times: int) -> Page:
    async def ask() -> None:
        await list_runs(database, NAMESPACE, filters)

    await _timed(ask, WARM_UP)
    before = await _blocks(database)
    seconds = await _timed(ask, times)
    buffers = (await _blocks(database) - before) / times
    page = await list_runs(database, NAMESPACE, filters)
    p50, p95 = _quantile(seconds, 0.5), _quantile(seconds, 0.95)
    return Page(name, len(page.runs), p50, p95, round(buffers))


async def _blocks(database: Database) -> int:
    """Buffers that this database has touched so far. Counted, not explained: the pages run as
    prepared statements, whose plans EXPLAIN would not show."""
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        cursor = await connection.execute(
            "SELECT blks_hit + blks_read AS blocks FROM pg_stat_database"
            " WHERE datname = current_database()"
        )
        row = await cursor.fetchone()
    assert row is not None
    return row["blocks"]


@asynccontextmanager
async def _api(dsn: str, temporal: str) -> AsyncGenerator[tuple[int, str]]:
    """The API as a process of its own, with a key that may do everything."""
    async with Database(DatabaseOptions(dsn)) as database:
        _, secret = await keys.create(database, "bench", ["admin"])
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tracker.cli", "api",
        stderr=asyncio.subprocess.DEVNULL,
        env={
            **os.environ, "FLOWTRAIL_DATABASE_URL": dsn, "FLOWTRAIL_API_PORT": str(port),
            "TEMPORAL_ADDRESS": temporal, "TEMPORAL_NAMESPACE": NAMESPACE,
        },
    )  # fmt: skip
    try:
        await _up(port)
        yield port, secret
    finally:
        process.terminate()
        await process.wait()


async def _up(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with connected(port) as http:
                    status, _ = await http.request("GET", "/readyz")
                    if status == 200:
                        return
            except ConnectionError:
                pass
            await asyncio.sleep(0.05)


async def _measure_gets(port: int, secret: str, sizes: Sizes) -> dict[str, float]:
    """Milliseconds p50 by one client, each request another ref."""
    routes = {
        "runs by ref": "/v1/runs?ref_type=order&ref_id=o-{}",
        "everything of a ref": "/v1/refs/order/o-{}",
        "nothing (healthz)": "/healthz#{}",
    }
    async with connected(port, **{"X-API-Key": secret}) as http:
        return {name: await _p50(http, path, sizes) for name, path in routes.items()}


async def _p50(http: RawHttp, path: str, sizes: Sizes) -> float:
    numbers = iter(range(1, 10**9, max(1, sizes.runs // 3 // (sizes.gets + 100))))

    async def get() -> None:
        status, _ = await http.request("GET", path.format(next(numbers)).partition("#")[0])
        assert status == 200

    await _timed(get, 100)
    return _quantile(await _timed(get, sizes.gets), 0.5)


async def _measure_starts(
    port: int, secret: str, temporal: str, sizes: Sizes
) -> dict[int, dict[str, float]]:
    """Starts a second by concurrency: by the API, by Temporal's client alone, and their ratio.
    Segments alternate, since open runs pile up and the machine drifts."""
    client = await Client.connect(temporal)
    found: dict[int, dict[str, float]] = {}
    for concurrency in (ONE, MANY):
        async with AsyncExitStack() as stack:
            https = [
                await stack.enter_async_context(connected(port, **{"X-API-Key": secret}))
                for _ in range(concurrency)
            ]
            alone: list[float] = []
            facade: list[float] = []
            for _ in range(sizes.rounds + 1):
                alone.append(await _rate(partial(_start_alone, client), concurrency, sizes))
                facade.append(await _rate(partial(_start_over, https), concurrency, sizes))
        # The first pair warms up.
        ratios = [f / a for f, a in zip(facade[1:], alone[1:], strict=True)]
        found[concurrency] = {
            "facade": statistics.median(facade[1:]),
            "alone": statistics.median(alone[1:]),
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
    return found


async def _start_alone(client: Client) -> None:
    await client.start_workflow(
        "OrderFulfilment", {"order": 7}, id=f"alone/{uuid.uuid4()}", task_queue="nobody",
        memo={"flowtrail": {"ref_type": "order", "ref_id": "o-new"}},
    )  # fmt: skip


async def _start_over(free: list[RawHttp]) -> None:
    http = free.pop()
    body = {
        "workflow_type": "OrderFulfilment", "input": {"order": 7},
        "ref_type": "order", "ref_id": f"new-{uuid.uuid4()}", "metadata": {"tier": "gold"},
    }  # fmt: skip
    status, answer = await http.request("POST", "/v1/runs", json.dumps(body).encode())
    assert status == 201, answer
    free.append(http)


async def _rate(start: Callable[[], Awaitable[None]], concurrency: int, sizes: Sizes) -> float:
    left = iter(range(sizes.starts))

    async def starting() -> None:
        for _ in left:
            await start()

    began = time.perf_counter()
    await asyncio.gather(*(starting() for _ in range(concurrency)))
    return sizes.starts / (time.perf_counter() - began)


async def _timed(call: Callable[[], Awaitable[None]], times: int) -> list[float]:
    seconds: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - began)
    return seconds


def _quantile(seconds: list[float], share: float) -> float:
    """Milliseconds."""
    return sorted(seconds)[int(share * (len(seconds) - 1))] * 1000


def _report(
    console: Console,
    sizes: Sizes,
    pages: list[Page],
    gets: dict[str, float],
    starts: dict[int, dict[str, float]],
) -> None:
    for table in _tables(sizes, pages, gets, starts):
        console.print(table)
    slowest = max(pages, key=lambda page: page.p95)
    widest = max(pages, key=lambda page: page.buffers)
    ratio = starts[MANY]["ratio"]
    finish(
        "queries",
        {
            "size": sizes.name,
            "runs": sizes.runs,
            "pages": {p.name: {"p95_ms": round(p.p95, 2), "buffers": p.buffers} for p in pages},
            "gets_p50_ms": {name: round(p50, 3) for name, p50 in gets.items()},
            "starts": {str(c): {k: round(v, 3) for k, v in f.items()} for c, f in starts.items()},
        },
        [
            Bar(f"slowest page, p95 ({slowest.name})", slowest.p95, "most", PAGE_P95_MS, "ms"),
            Bar(f"widest page ({widest.name})", widest.buffers, "most", PAGE_BUFFERS, "buffers"),
            Bar("GET by ref, p50", gets["runs by ref"], "most", GET_P50_MS, "ms"),
            Bar(f"POST start / client alone, {MANY} at once", ratio, "least", START_RATIO),
        ],
    )


def _tables(
    sizes: Sizes,
    pages: list[Page],
    gets: dict[str, float],
    starts: dict[int, dict[str, float]],
) -> Iterator[Table]:
    table = Table("page of 50", "rows", "p50 ms", "p95 ms", "buffers", title=f"{sizes.runs:,} runs")
    for page in pages:
        row = (f"{page.p50:.2f}", f"{page.p95:.2f}", str(page.buffers))
        table.add_row(page.name, str(page.rows), *row)
    yield table
    table = Table("HTTP GET at one client", "p50 ms")
    for name, p50 in gets.items():
        table.add_row(name, f"{p50:.2f}")
    yield table
    table = Table("starts at once", "facade/s", "client alone/s", "ratio", "of rounds")
    for concurrency, found in starts.items():
        spread = f"{found['lowest']:.2f}-{found['highest']:.2f}"
        rates = (f"{found[side]:.0f}" for side in ("facade", "alone"))
        table.add_row(str(concurrency), *rates, f"{found['ratio']:.2f}", spread)
    yield table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queries", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200,000 runs, about a minute")
    arguments = parser.parse_args()
    # As the API itself runs, so that neither side of a comparison pays for a slower loop.
    uvloop.run(main(QUICK if arguments.quick else FULL))
