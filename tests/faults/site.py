"""One installation: a database, a namespace, an API and two workers as processes, and a proxy
before each thing that they connect to.

Site and servers outlive a fault: after `heal` everything runs again.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from temporalio.client import Client

from tests.conftest import TEMPLATE, register_namespace
from tests.faults.processes import Program
from tests.faults.servers import Servers
from tests.faults.worker import SERVES
from tests.proxy import TcpProxy
from tracker.client import AsyncTrackerClient
from tracker.embedded.ports import LOOPBACK, free_port
from tracker.temporal.start_encoder import StartEncoder

QUEUE = "faults"
WORKER = ["tests.faults.worker"]
API = ["tracker.cli", "api"]
API_SERVES = "Application startup complete"


@dataclass
class Site:
    """Make it with `site_on`.

    Attributes:
        dsn: The database, past the proxies.
        client: Temporal, past the proxies and without the plugin.
        worker_database, api_database: Between processes and Postgres.
        worker_temporal, api_temporal: Between processes and Temporal.
        api: The API, to be asked by `http`.
    """

    servers: Servers
    folder: Path
    dsn: str
    client: Client
    worker_database: TcpProxy
    api_database: TcpProxy
    worker_temporal: TcpProxy
    api_temporal: TcpProxy
    api: Program
    workers: list[Program]
    http: AsyncTrackerClient
    _connection: psycopg.AsyncConnection[DictRow] | None = None

    @property
    def namespace(self) -> str:
        """Temporal's namespace of this site."""
        return self.client.namespace

    @property
    def encoder(self) -> StartEncoder:
        """For starts in transactions."""
        return StartEncoder(self.namespace, task_queue=QUEUE)

    @property
    def proxies(self) -> tuple[TcpProxy, ...]:
        """All of them."""
        return (
            self.worker_database,
            self.api_database,
            self.worker_temporal,
            self.api_temporal,
        )

    @property
    def programs(self) -> tuple[Program, ...]:
        """All of them."""
        return (self.api, *self.workers)

    @property
    def spill_dir(self) -> Path:
        """Where both workers spill."""
        return self.folder / "spill"

    async def kill_postgres(self) -> None:
        """SIGKILL."""
        await self.forget_connection()
        await asyncio.to_thread(self.servers.kill_postgres)

    async def heal(self) -> None:
        """Open the proxies, start again what is dead."""
        for proxy in self.proxies:
            proxy.pass_on()
        await asyncio.to_thread(self.servers.revive)
        dead = [p for p in self.programs if p.was_started and not p.is_running]
        await together(program.start() for program in dead)

    async def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Rows of a query, past the proxies.

        Raises:
            psycopg.Error: Among others, where the server was killed since the last query.
        """
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection[DictRow].connect(
                self.dsn, row_factory=dict_row, autocommit=True, connect_timeout=5
            )
        cursor = await self._connection.execute(query.encode(), parameters)
        return [] if cursor.description is None else await cursor.fetchall()

    async def close(self) -> None:
        """End the processes and close what the tests asked with."""
        await together(program.kill() for program in self.programs)
        await self.http.close()
        await self.forget_connection()

    async def forget_connection(self) -> None:
        """The server behind it is about to be killed."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def tell_logs(self) -> None:
        """Write the ends of all logs where pytest shows them."""
        for program in self.programs:
            sys.stderr.write(f"--- {program.name}\n{program.log[-3000:]}\n")


@asynccontextmanager
async def site_on(
    servers: Servers, folder: Path, *, workers: int = 2, with_api: bool = True
) -> AsyncGenerator[Site]:
    """A site of its own on shared servers; its processes end with the block."""
    name = f"site_{uuid.uuid4().hex[:12]}"
    await asyncio.to_thread(servers.postgres.create_database, name, template=TEMPLATE)
    client = await Client.connect(servers.temporal.address, namespace=name.replace("_", "-"))
    await register_namespace(client, client.namespace)
    ports = [servers.postgres.port] * 2 + [servers.temporal.port] * 2
    async with (
        TcpProxy(ports[0]) as worker_database,
        TcpProxy(ports[1]) as api_database,
        TcpProxy(ports[2]) as worker_temporal,
        TcpProxy(ports[3]) as api_temporal,
    ):
        site = _site(
            servers, folder, servers.postgres.dsn(name), client, workers,
            (worker_database, api_database, worker_temporal, api_temporal),
        )  # fmt: skip
        try:
            started = site.programs if with_api else site.workers
            await together(program.start() for program in started)
            yield site
        except BaseException:
            site.tell_logs()
            raise
        finally:
            await site.close()


async def together(calls: Iterable[Awaitable[None]]) -> None:
    """Await all, and raise the first error only after all have ended."""
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _site(
    servers: Servers,
    folder: Path,
    dsn: str,
    client: Client,
    workers: int,
    proxies: tuple[TcpProxy, ...],
) -> Site:
    worker_database, api_database, worker_temporal, api_temporal = proxies
    port = free_port()
    shared = {"TEMPORAL_NAMESPACE": client.namespace, "FLOWTRAIL_AUTH": "off"}
    for_workers = shared | {
        "FLOWTRAIL_DATABASE_URL": worker_database.redirect(dsn),
        "FLOWTRAIL_SPILL_DIR": str(folder / "spill"),
        "FLOWTRAIL_TASK_QUEUE": QUEUE,
        "TEMPORAL_ADDRESS": worker_temporal.address,
    }
    for_api = shared | {
        "FLOWTRAIL_DATABASE_URL": api_database.redirect(dsn),
        "FLOWTRAIL_API_PORT": str(port),
        "FLOWTRAIL_START_WITHIN": "0.5",
        "TEMPORAL_ADDRESS": api_temporal.address,
    }
    return Site(
        servers,
        folder,
        dsn,
        client,
        worker_database,
        api_database,
        worker_temporal,
        api_temporal,
        Program(API, folder / "api", for_api, API_SERVES),
        [Program(WORKER, folder / f"worker-{n}", for_workers, SERVES) for n in range(workers)],
        AsyncTrackerClient(f"http://{LOOPBACK}:{port}", retries=0, timeout=5.0),
    )
