"""A Postgres that is not what it was: older, read-only, of another revision."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from tests.faults.conftest import Endure
from tests.faults.load import PATIENCE, Load
from tests.faults.servers import Servers
from tests.faults.site import Site, site_on, together
from tests.faults.workload import Job
from tests.waiting import eventually
from tracker.core.status import HISTORY_AUTHORITY
from tracker.errors import TransientError
from tracker.store.schema import REVISIONS

pytestmark = pytest.mark.timeout(180)


async def test_an_older_backup_starts_nothing_twice_and_its_gaps_are_filled(
    site: Site, endure: Endure
) -> None:
    async def blow(load: Load) -> None:
        site.worker_temporal.hang()
        site.api_temporal.hang()
        load.ask(3)
        # The backup holds starts that Temporal has not confirmed; it will, after the backup.
        await load.all_accepted()
        await asyncio.to_thread(site.servers.back_up)
        await site.heal()
        load.ask(4)
        await load.all_accepted()
        # All of it is started, closed and confirmed by history when the tables forget it.
        await eventually(lambda: _are_confirmed(load, 7), PATIENCE)
        # Whoever restores a backup first stops what writes.
        await together(program.kill() for program in site.programs)
        await site.kill_postgres()
        await asyncio.to_thread(site.servers.restore_backup)

    await endure(site, "Postgres restored from a backup", blow, may_lose_attempts=True)


async def test_a_primary_turned_read_only_is_an_outage(site: Site, endure: Endure) -> None:
    async def blow(_: Load) -> None:
        await _alter(site, "ALTER SYSTEM SET default_transaction_read_only = on")
        await eventually(lambda: _is_read_only(site))

    async def meanwhile(load: Load) -> None:
        await load.held_closed()
        with pytest.raises(TransientError):
            await site.http.start_workflow("FaultRun", vars(Job(0, "")))

    async def recover(_: Load) -> None:
        await _alter(site, "ALTER SYSTEM RESET default_transaction_read_only")

    try:
        await endure(site, "primary turned read-only", blow, meanwhile=meanwhile, recover=recover)
    finally:
        await _alter(site, "ALTER SYSTEM RESET default_transaction_read_only")


async def test_an_old_worker_goes_on_with_a_newer_schema(site: Site, endure: Endure) -> None:
    """The newer schema says that code of our revision may go on."""
    [stored] = await site.rows("SELECT oldest_revision FROM flowtrail.compatibility")

    async def blow(_: Load) -> None:
        await site.rows("UPDATE flowtrail.compatibility SET oldest_revision = %s", REVISIONS[-1])
        await site.rows("UPDATE flowtrail.alembic_version SET version_num = '9999'")
        # Whoever is connected looks at the schema anew.
        await site.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    async def recorded_live(load: Load) -> None:
        await load.held_closed()
        await load.all_accepted()
        await eventually(lambda: _has_no_open_run(load), PATIENCE)
        assert not list(site.spill_dir.glob("*.spill"))

    try:
        await endure(site, "old worker on the new schema", blow, meanwhile=recorded_live)
    finally:
        await site.rows("UPDATE flowtrail.alembic_version SET version_num = %s", REVISIONS[-1])
        await site.rows(
            "UPDATE flowtrail.compatibility SET oldest_revision = %s", stored["oldest_revision"]
        )


async def test_a_new_worker_on_the_old_schema_spills_until_it_is_migrated(
    servers: Servers, tmp_path: Path, endure: Endure
) -> None:
    """A worker of a version to come, whose schema is one revision ahead of what it finds."""

    async def blow(load: Load) -> None:
        for worker in load.site.workers:
            await worker.stop()
            await worker.start(FAULTS_REVISIONS=",".join([*REVISIONS, "9999"]))

    async def spilled(load: Load) -> None:
        await load.held_closed()
        await eventually(lambda: list(load.site.spill_dir.glob("*.spill")))
        for worker in load.site.workers:
            await worker.says("this version needs")

    async def migrate(load: Load) -> None:
        await load.site.rows("UPDATE flowtrail.alembic_version SET version_num = '9999'")

    async with site_on(servers, tmp_path, workers=1, with_api=False) as site:
        await endure(
            site,
            "new worker on the old schema",
            blow,
            meanwhile=spilled,
            recover=migrate,
            over_http=False,
        )


async def _alter(site: Site, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        site.dsn, autocommit=True, options="-c default_transaction_read_only=off"
    ) as connection:
        await connection.execute(statement.encode())
        await connection.execute("SELECT pg_reload_conf()")


async def _is_read_only(site: Site) -> bool:
    [row] = await site.rows("SHOW default_transaction_read_only")
    return row["default_transaction_read_only"] == "on"


async def _are_confirmed(load: Load, count: int) -> bool:
    rows = await load.recorded(
        "SELECT status, status_version FROM flowtrail.run WHERE id = ANY(%s)"
    )
    assert sum(row["status_version"] >= HISTORY_AUTHORITY for row in rows) == count, rows
    return True


async def _has_no_open_run(load: Load) -> bool:
    return not await load.recorded(
        "SELECT 1 FROM flowtrail.run WHERE id = ANY(%s) AND finished_at IS NULL"
    )
