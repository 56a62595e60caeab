"""The live feed while its connections are cut, and the API processes, the sequencer among them, and
PostgreSQL are killed and come back: everyone is sent every change, once, in order."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.factories import ARun
from tests.faults.processes import Program
from tests.faults.site import API, API_SERVES
from tests.proxy import TcpProxy
from tests.waiting import eventually
from tracker.client import AsyncTrackerClient
from tracker.core.ids import Ref
from tracker.embedded.ports import LOOPBACK, free_port
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.errors import TrackerError
from tracker.migrations import migrate
from tracker.models.feed import Snapshot
from tracker.store.batch_writer import Unavailable, Writer, encode_events
from tracker.store.database import Database, DatabaseOptions

REFS = 5
SHORT, LONG = 6.0, 180.0
"""Seconds of trouble."""
RECOVERS = 60.0


@dataclass
class Trouble:
    """What can be broken."""

    folder: Path
    postgres: EmbeddedPostgres
    apis: list[Program]
    proxies: list[TcpProxy]
    blows: dict[str, int] = field(default_factory=dict[str, int])

    async def blow(self, draw: random.Random) -> None:
        """Break something, and let it come back."""
        what = draw.choice(["cut", "cut", "cut", "api", "postgres"])
        self.blows[what] = self.blows.get(what, 0) + 1
        if what == "cut":
            proxy = draw.choice(self.proxies)
            proxy.reset()
            await asyncio.sleep(draw.random() / 2)
            proxy.pass_on()
        elif what == "api":
            api = draw.choice(self.apis)
            await api.kill()
            await api.start()
        else:
            port = self.postgres.port
            os.kill(self.postgres.pid, signal.SIGKILL)
            await asyncio.to_thread(self.postgres.stop)
            await asyncio.sleep(draw.random())
            self.postgres = await asyncio.to_thread(started, self.folder, port)


def started(folder: Path, port: int | None = None) -> EmbeddedPostgres:
    """A durable PostgreSQL."""
    server = EmbeddedPostgres.start(folder / "postgres", port=port)
    assert port in (None, server.port)
    return server


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="flowtrail-") as name:
        yield Path(name)


@asynccontextmanager
async def troubled(folder: Path) -> AsyncGenerator[Trouble]:
    """PostgreSQL, two API processes, and a proxy before each."""
    postgres = await asyncio.to_thread(started, folder)
    await asyncio.to_thread(postgres.create_database, "live")
    dsn = postgres.dsn("live")
    await asyncio.to_thread(migrate, dsn)
    trouble = Trouble(folder, postgres, [], [])
    async with AsyncExitStack() as stack:
        for number in range(2):
            port = free_port()
            settings = {
                "FLOWTRAIL_DATABASE_URL": dsn,
                "FLOWTRAIL_API_PORT": str(port),
                "FLOWTRAIL_AUTH": "off",
                "TEMPORAL_ADDRESS": f"{LOOPBACK}:{free_port()}",
                "TEMPORAL_NAMESPACE": "default",
            }
            trouble.apis.append(Program(API, folder / f"api-{number}", settings, API_SERVES))
            trouble.proxies.append(await stack.enter_async_context(TcpProxy(port)))
        await asyncio.gather(*(api.start() for api in trouble.apis))
        try:
            yield trouble
        finally:
            for api in trouble.apis:
                await api.kill()
            await asyncio.to_thread(trouble.postgres.stop)


async def watch(address: str, seqs: list[int], ref: str | None) -> None:
    """The SDK's watch, from the first change on."""
    # It is to come up whatever the first blows are.
    async with AsyncTrackerClient(f"http://{address}", retries=1000) as client:
        async for told in client.watch(after=0, ref=ref):
            assert not isinstance(told, Snapshot)
            seqs.append(told.seq)


async def follow(address: str, seqs: list[int], ref_id: str | None) -> None:
    """A socket that comes back by itself, after the last change that it has."""
    filters = {} if ref_id is None else {"ref_type": "order", "ref_id": ref_id}
    while True:
        with suppress(OSError, WebSocketException, TimeoutError):
            async with connect(f"ws://{address}/v1/ws", open_timeout=2) as socket:
                after = seqs[-1] if seqs else 0
                asked = {"type": "subscribe", "id": "w", "filters": filters, "after": after}
                await socket.send(json.dumps(asked))
                async for text in socket:
                    frame: dict[str, Any] = json.loads(text)
                    assert frame["type"] not in ("resync", "snapshot"), frame
                    if frame["type"] == "change":
                        seqs.append(frame["change"]["seq"])
                    elif frame["type"] == "error":
                        assert frame["error"] == "database_unavailable", frame
                        break
        await asyncio.sleep(0.1)


async def write(dsn: str, stop: asyncio.Event) -> list[UUID]:
    """Begin and end runs, each of which is written whatever happens; returns their ids."""
    writer, written = Writer(DatabaseOptions(dsn, connect_timeout=1.0)), []
    while not stop.is_set():
        run = ARun(ref=Ref("order", f"o-{len(written) % REFS}"))
        for event in (run.started(), run.closed()):
            encoded = encode_events([event])
            while True:
                try:
                    await writer.write(encoded)
                except Unavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
        written.append(run.identity.id)
        await asyncio.sleep(0.01)
    await writer.close()
    return written


@pytest.mark.timeout(600)
async def test_every_change_reaches_everybody_once(soaking: bool, folder: Path) -> None:
    draw = random.Random()
    async with troubled(folder) as trouble, AsyncExitStack() as stack:
        dsn = trouble.postgres.dsn("live")
        everything: list[list[int]] = []
        of_ref: list[list[int]] = []
        tasks: list[asyncio.Task[None]] = []
        for proxy in trouble.proxies:
            for watcher, ref in ((watch, "order/o-1"), (follow, "o-1")):
                for asked, kept in ((None, everything), (ref, of_ref)):
                    seqs: list[int] = []
                    kept.append(seqs)
                    tasks.append(asyncio.create_task(watcher(proxy.address, seqs, asked)))
        stop = asyncio.Event()
        writing = asyncio.create_task(write(dsn, stop))
        deadline = asyncio.get_running_loop().time() + (LONG if soaking else SHORT)
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(draw.random())
            await trouble.blow(draw)
        stop.set()
        written = await writing
        database = await stack.enter_async_context(Database(DatabaseOptions(dsn)))

        async def settled() -> bool:
            rows = await changes(database)
            ended = {row["run_id"] for row in rows if row["status"] == "completed"}
            due = [row["seq"] for row in rows]
            mine = [row["seq"] for row in rows if row["ref_id"] == "o-1"]
            check_alive(tasks)
            return (
                ended >= set(written)
                and all(len(seqs) >= len(due) for seqs in everything)
                and all(len(seqs) >= len(mine) for seqs in of_ref)
            )

        with suppress(AssertionError):
            await eventually(settled, RECOVERS)
        rows = await changes(database)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    due = [row["seq"] for row in rows]
    mine = [row["seq"] for row in rows if row["ref_id"] == "o-1"]
    assert due == list(range(1, len(due) + 1))
    assert {row["run_id"] for row in rows if row["status"] == "completed"} == set(written)
    assert len(due) == 2 * len(written), trouble.blows
    for seqs in everything:
        assert seqs == due, trouble.blows
    for seqs in of_ref:
        assert seqs == mine, trouble.blows


def check_alive(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            raise RuntimeError("a watcher gave up") from task.exception()


async def changes(database: Database) -> list[dict[str, Any]]:
    try:
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT seq, run_id, status, ref_id FROM flowtrail.change ORDER BY seq"
            )
            return await cursor.fetchall()
    except TrackerError as error:
        raise AssertionError(str(error)) from error
