"""`purge`, `hold` and `erase` as commands."""

from __future__ import annotations

import asyncio

from tests.cli.conftest import CommandLine
from tests.starts import rows
from tests.store.test_retention import a_run, record, told
from tracker.store.database import Database


async def test_hold_purge_and_erase(cli: CommandLine, database: str, store: Database) -> None:
    cli.set(database_url=database)
    await record(store, *told(a_run()))

    async def run(*arguments: str, code: int = 0) -> str:
        result = await asyncio.to_thread(cli.run, *arguments, code=code)
        return result.stdout + result.stderr

    assert "is held" in await run("hold", "add", "order/o-1", "--reason", "a lawsuit")
    assert "a lawsuit" in await run("hold", "list")
    assert "on legal hold" in await run("erase", "order/o-1", "--yes", code=1)
    assert "left out, on hold" in await run("purge", "--older-than", "30d")
    assert "is free" in await run("hold", "remove", "order/o-1")
    assert "nothing was changed" in await run("purge", "--older-than", "30d", "--dry-run")
    facts = await asyncio.to_thread(cli.json, "purge", "--older-than", "30d")
    assert (facts["runs"], facts["payloads"]) == (1, 2)
    assert "erased 1 runs" in await run("erase", "order/o-1", "--yes", "--reason", "asked to")
    assert "1 were erased before" in await run("erase", "order/o-1", "--yes")
    assert "Aborted" in await run("purge", "--older-than", "1d", "--policy", "delete", code=1)
    assert "90d" in await run("purge", "--older-than", "90", code=2)
    actions = await rows(store, "SELECT action FROM {schema}.audit ORDER BY at")
    assert [row["action"] for row in actions] == [
        "hold.add",
        "purge",
        "hold.remove",
        "purge",
        "erase",
    ]
