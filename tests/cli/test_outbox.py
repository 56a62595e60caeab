"""`flowtrail outbox` on real entries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID, uuid4

import pytest

from tests.cli.conftest import CommandLine
from tests.starts import run_row
from tests.store.test_dead_entries import a_dead_signal, a_dead_start
from tests.store.test_signal_order import accepted_signal
from tracker.store.audit import actions_of_run
from tracker.store.database import Database, DatabaseOptions

T = TypeVar("T")


@pytest.fixture
def connected(cli: CommandLine, database: str) -> CommandLine:
    cli.set(database_url=database)
    return cli


def on(dsn: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do something with a database of commands that bring a loop of their own."""

    async def run() -> T:
        async with Database(DatabaseOptions(dsn)) as store:
            return await work(store)

    return asyncio.run(run())


def waiting_signal(store: Database) -> Awaitable[UUID]:
    return accepted_signal(store, uuid4())


def test_the_list_tells_what_is_dead_and_why(connected: CommandLine, database: str) -> None:
    assert "The outbox is empty." in connected.run("outbox", "list").stdout
    assert "No dead entries." in connected.run("outbox", "list", "--dead").stdout
    dead, waiting = on(database, a_dead_signal), on(database, waiting_signal)

    shown = connected.run("outbox", "list").stdout
    assert str(dead) in shown
    assert "refused" in shown
    listed = connected.json("outbox", "list")["entries"]
    assert [entry["id"] for entry in listed] == [str(waiting), str(dead)]
    [only] = connected.json("outbox", "list", "--dead")["entries"]
    assert (only["id"], only["last_error"], only["due_at"]) == (str(dead), "refused", None)


def test_a_retry_revives_and_is_in_the_audit(connected: CommandLine, database: str) -> None:
    run_id = on(database, a_dead_start)
    connected.run("outbox", "retry", str(run_id), "--reason", "mended")
    assert connected.json("outbox", "list", "--dead")["entries"] == []

    [entry] = on(database, lambda store: actions_of_run(store, run_id))
    assert (entry["action"], entry["outcome"], entry["reason"]) == (
        "outbox.retry",
        "done",
        "mended",
    )
    assert entry["actor"].startswith("cli:")
    assert entry["details"] == {"entry_id": str(run_id), "kind": "start"}


def test_a_dropped_start_closes_its_run(connected: CommandLine, database: str) -> None:
    run_id = on(database, a_dead_start)
    told = connected.run("outbox", "drop", str(run_id)).stdout
    assert f"run {run_id} is rejected" in told
    assert on(database, lambda store: run_row(store, run_id))["status"] == "rejected"
    assert connected.json("outbox", "list")["entries"] == []


def test_what_is_not_dead_is_refused(connected: CommandLine, database: str) -> None:
    waiting = on(database, waiting_signal)
    for command in ("retry", "drop"):
        assert "is not dead" in connected.run("outbox", command, str(waiting), code=1).output
        assert "has no entry" in connected.run("outbox", command, str(uuid4()), code=1).output
