"""No server outlives its owner, and nothing that a killed owner left behind stops the next one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.waiting import eventually
from tracker.embedded import binaries
from tracker.embedded.ownership import DirectoryInUse
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.process import ServerProcess
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.errors import EmbeddedServersMissing

CHECKOUT = Path(__file__).parents[2]

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")


@only_linux
async def test_killing_the_owner_ends_its_servers(folder: Path) -> None:
    with _owner(folder) as (owner, pids):
        owner.kill()
        await eventually(lambda: not any(map(_runs, pids)))


async def test_the_next_start_does_not_wait_for_anything(folder: Path) -> None:
    """It may come while the servers of the killed owner are still shutting down."""
    with _owner(folder) as (owner, _):
        owner.kill()
    with (
        EmbeddedPostgres.start(folder / "postgres", durable=False) as postgres,
        EmbeddedTemporal.start(folder / "temporal.db", headless=True),
    ):
        psycopg.connect(postgres.dsn("kept")).close()


def test_ctrl_c_reaches_the_owner_before_its_servers(folder: Path) -> None:
    with _owner(folder) as (owner, pids):
        assert all(os.getpgid(pid) != os.getpgid(owner.pid) for pid in pids)
        owner.send_signal(signal.SIGINT)
        owner.wait(20)
        assert not any(map(_runs, pids))


def test_a_directory_has_one_owner(folder: Path) -> None:
    with _owner(folder) as (owner, _):
        with pytest.raises(DirectoryInUse, match=f"in use by process {owner.pid}: stop it"):
            EmbeddedPostgres.start(folder / "postgres", durable=False)
        with pytest.raises(DirectoryInUse, match=f"in use by process {owner.pid}: stop it"):
            EmbeddedTemporal.start(folder / "temporal.db")
        owner.kill()

    with (
        EmbeddedPostgres.start(folder / "postgres", durable=False),
        pytest.raises(DirectoryInUse, match="by this process already"),
    ):
        EmbeddedPostgres.start(folder / "postgres", durable=False)


async def test_servers_without_an_owner_are_stopped(folder: Path) -> None:
    """Where the kernel has no death signal, the owner's servers run on after it was killed."""
    postgres = EmbeddedPostgres.start(folder / "postgres", durable=False)
    temporal = EmbeddedTemporal.start(folder / "temporal.db", headless=True)
    abandoned = (_abandon(postgres), _abandon(temporal))

    with (
        EmbeddedPostgres.start(
            folder / "postgres", port=postgres.port, durable=False
        ) as next_postgres,
        EmbeddedTemporal.start(
            folder / "temporal.db", port=temporal.port, headless=True
        ) as next_temporal,
    ):
        assert not any(_runs(process.pid) for process in abandoned)
        assert (next_postgres.port, next_temporal.port) == (postgres.port, temporal.port)
    for process in abandoned:
        process.stop()


async def test_a_killed_server_starts_again(folder: Path) -> None:
    first = EmbeddedPostgres.start(folder / "postgres", durable=False)
    first.create_database("kept")
    os.kill(first.pid, signal.SIGKILL)
    first.stop()
    with EmbeddedPostgres.start(folder / "postgres", durable=False) as second:
        psycopg.connect(second.dsn("kept")).close()


def test_a_server_killed_while_it_made_its_database_starts_again(folder: Path) -> None:
    """Once its file is there and its tables are not: the server never starts on such a file."""
    file = folder / "temporal.db"
    with _start_owner(folder) as owner:
        while not file.exists():
            assert owner.poll() is None
        owner.kill()
    with EmbeddedTemporal.start(file, headless=True) as server:
        assert _runs(server.pid)


async def test_a_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    servers: list[EmbeddedPostgres] = []
    starter = threading.Thread(
        target=lambda: servers.append(EmbeddedPostgres.start(folder, durable=False))
    )
    starter.start()
    starter.join()
    with servers[0] as server:
        psycopg.connect(server.dsn()).close()


@pytest.mark.parametrize("start", [EmbeddedPostgres.start, EmbeddedTemporal.start])
def test_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(binaries.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries.sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EmbeddedServersMissing, match=r"pip install 'flowtrail\[embedded\]'"):
        start(folder / "data")


@contextmanager
def _owner(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that runs both servers in `folder`, and their pids; killed at the end."""
    with _start_owner(folder) as owner:
        assert owner.stdout is not None
        try:
            yield owner, json.loads(owner.stdout.readline())
        finally:
            owner.kill()


def _start_owner(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.embedded.owner", str(folder)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _abandon(server: EmbeddedPostgres | EmbeddedTemporal) -> ServerProcess:
    """Give up the directory as the kernel does for a killed owner, but leave the server."""
    lock, process = server._lock, server._process  # pyright: ignore[reportPrivateUsage]
    assert lock is not None
    lock.release()
    return process


def _runs(pid: int) -> bool:
    try:
        # An orphan stays a zombie in a container whose first process reaps none.
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
