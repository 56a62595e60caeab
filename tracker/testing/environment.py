"""What the fixtures of `tracker.testing.plugin` hand out: real servers, and an environment in which
whatever runs is tracked."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.worker import Worker

from tracker.core.ids import Ref
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.migrations import migrate
from tracker.models.wire import RunDetail, parse_ref
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.plugin import TrackerPlugin
from tracker.testing.assertions import ExpectedStep, assert_runs_match, runs_of

TEMPLATE = "flowtrail_template"
POLL = 0.05
"""Seconds between two looks at what is recorded."""


@dataclass(frozen=True)
class TrackedServers:
    """A running PostgreSQL and Temporal; `TEMPLATE` is a migrated database to clone."""

    postgres: EmbeddedPostgres
    temporal: EmbeddedTemporal


@contextmanager
def started_servers(folder: Path) -> Generator[TrackedServers]:
    """Start both servers on free ports, for as long as the block lasts."""
    # Registering a namespace counts against a limit of 20 a second, meant for replicated clusters.
    many = {"frontend.rps.namespaceReplicationInducingAPIs": 1000}
    with (
        EmbeddedPostgres.start(folder / "postgres", durable=False) as postgres,
        EmbeddedTemporal.start(headless=True, dynamic_config=many) as temporal,
    ):
        postgres.create_database(TEMPLATE)
        migrate(postgres.dsn(TEMPLATE))
        yield TrackedServers(postgres, temporal)


@contextmanager
def tracked_environment(servers: TrackedServers, spill_dir: Path) -> Generator[TrackedEnvironment]:
    """A fresh database, dropped at the end of the block; the namespace is made on first use."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    servers.postgres.create_database(name, template=TEMPLATE)
    try:
        yield TrackedEnvironment(
            dsn=servers.postgres.dsn(name),
            address=servers.temporal.address,
            namespace=name.replace("_", "-"),
            spill_dir=spill_dir,
        )
    finally:
        servers.postgres.drop_database(name)


@dataclass
class TrackedEnvironment:
    """One test's tracker.

    Attributes:
        dsn: Its database.
        address, namespace: Its Temporal.
        client: A client with the plugin, once `worker` or `connect` was entered.
    """

    dsn: str
    address: str
    namespace: str
    spill_dir: Path
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """The tracked client.

        Raises:
            RuntimeError: Before `worker` or `connect`.
        """
        if self._client is None:
            raise RuntimeError("enter flowtrail.worker(…) or await flowtrail.connect() first")
        return self._client

    async def connect(self, **plugin_options: Any) -> Client:
        """Connect, making the namespace the first time.

        Args:
            plugin_options: For `TrackerPlugin`, e.g. `payloads=`.
        """
        if self._client is None:
            plain = await Client.connect(self.address)
            await plain.workflow_service.register_namespace(
                RegisterNamespaceRequest(
                    namespace=self.namespace,
                    workflow_execution_retention_period=Duration(seconds=86_400),
                )
            )
        plugin = TrackerPlugin(self.dsn, spill_dir=self.spill_dir, **plugin_options)
        self._client = await Client.connect(
            self.address, namespace=self.namespace, plugins=[plugin]
        )
        return self._client

    @asynccontextmanager
    async def worker(
        self,
        *,
        workflows: Sequence[type] = (),
        activities: Sequence[Callable[..., Any]] = (),
        task_queue: str = "test",
        **worker_options: Any,
    ) -> AsyncGenerator[Worker]:
        """A tracked worker on the queue `test`; synchronous activities run in threads."""
        client = self._client or await self.connect()
        with ThreadPoolExecutor(8) as executor:
            options: dict[str, Any] = {"activity_executor": executor} | worker_options
            async with Worker(
                client,
                task_queue=task_queue,
                workflows=workflows,
                activities=activities,
                **options,
            ) as worker:
                yield worker

    async def runs(self, ref: str | Ref | tuple[str, str]) -> list[RunDetail]:
        """The recorded runs of a ref with steps and attempts, oldest first."""
        async with Database(DatabaseOptions(self.dsn), max_connections=1) as database:
            return await runs_of(database, self.namespace, parse_ref(ref))

    async def assert_run(
        self,
        ref: str | Ref | tuple[str, str],
        *,
        workflow_type: str | None = None,
        status: str = "completed",
        steps: Sequence[str | ExpectedStep] | None = None,
        within: float = 10.0,
    ) -> RunDetail:
        """Assert what is recorded of the latest run of a ref, waiting for it to be.

        Args:
            workflow_type: Only runs of this type count.
            status: Expected status of the run.
            steps: Expected steps, all of them, in the order in which they were asked for: a name
                stands for a completed step.
            within: Seconds that the records may take to be as expected.

        Returns:
            The run.

        Raises:
            AssertionError: It tells what is recorded instead.
        """
        deadline = asyncio.get_running_loop().time() + within
        while True:
            runs = await self.runs(ref)
            try:
                return assert_runs_match(runs, ref, workflow_type, status, steps)
            except AssertionError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(POLL)
