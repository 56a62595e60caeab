"""Real servers for the whole suite: one PostgreSQL and one Temporal per process that runs tests, on
free ports.

A test that asks for `database` or `namespace` gets one of its own, so tests never see each other's
rows or runs. Cloning the migrated template takes about 20 ms, a namespace about 3 ms.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.scratch import scratch_root
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.store.database import Database, DatabaseOptions

TEMPLATE = "migrated_template"

# Registering a namespace counts against a limit of 20 a second, meant for replicated clusters.
MANY_NAMESPACES = {"frontend.rps.namespaceReplicationInducingAPIs": 1000}


def pytest_configure() -> None:
    """Temporary files of the whole suite, and of the programs it starts, in memory if possible."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch_root())


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--soak N`: the fault suite and the random runs in their long form, N times over."""
    parser.addoption("--soak", type=int, default=0, metavar="N", help="long form, N times over")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that have a long form run it so many times."""
    if "soaking" in metafunc.fixturenames:
        times: int = metafunc.config.getoption("soak") or 0
        given = [True] * times or [False]
        rounds = [f"round-{n}" for n in range(1, times + 1)] or ["short"]
        metafunc.parametrize("soaking", given, ids=rounds)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The session's PostgreSQL, with fsync off."""
    with (
        TemporaryDirectory(prefix="flowtrail-") as folder,
        EmbeddedPostgres.start(Path(folder), durable=False) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """Name of a migrated database that `database` clones; nobody stays connected to it."""
    from tracker.migrations import migrate

    postgres_server.create_database(TEMPLATE)
    migrate(postgres_server.dsn(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def empty_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """DSN of an empty, unmigrated database of this test's own."""
    with _database_of(postgres_server, template=None) as dsn:
        yield dsn


@pytest.fixture
def database(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """DSN of a freshly migrated database of this test's own."""
    with _database_of(postgres_server, template=migrated_template) as dsn:
        yield dsn


@pytest.fixture
async def store(database: str) -> AsyncIterator[Database]:
    """Connections to `database`."""
    async with Database(DatabaseOptions(database)) as opened:
        yield opened


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[EmbeddedTemporal]:
    """The session's Temporal server, in memory and without the Web UI."""
    with EmbeddedTemporal.start(headless=True, dynamic_config=MANY_NAMESPACES) as server:
        yield server


@pytest.fixture(scope="session")
async def temporal_connection(temporal_server: EmbeddedTemporal) -> Client:
    """The session's connection, in the namespace `default`; prefer `temporal_client`."""
    return await Client.connect(temporal_server.address)


@pytest.fixture
async def namespace(temporal_connection: Client) -> str:
    """Name of a fresh Temporal namespace, usable at once."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    await register_namespace(temporal_connection, name)
    return name


@pytest.fixture
def temporal_client(temporal_connection: Client, namespace: str) -> Client:
    """A client of this test's own namespace, without plugins or interceptors."""
    return Client(temporal_connection.service_client, namespace=namespace)


async def register_namespace(connection: Client, name: str) -> None:
    """Make a namespace, usable at once."""
    await connection.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=name, workflow_execution_retention_period=Duration(seconds=86_400)
        )
    )


@contextmanager
def _database_of(server: EmbeddedPostgres, template: str | None) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.create_database(name, template=template)
    try:
        yield server.dsn(name)
    finally:
        server.drop_database(name)
