"""SIGKILL to each kind of process under load."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.faults.conftest import Endure
from tests.faults.load import Load
from tests.faults.site import Site
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)


async def test_runs_outlive_a_worker_killed_in_mid_step(site: Site, endure: Endure) -> None:
    async def blow(load: Load) -> None:
        holders = Counter(note.pid for note in load.notes() if note.step == "hold")
        [(busiest, _)] = holders.most_common(1)
        [worker] = [worker for worker in site.workers if worker.pid == busiest]
        await worker.kill()

    # The last milliseconds of what only that worker knew die with it.
    await endure(site, "worker killed in mid-step", blow, may_lose_attempts=True)


async def test_starts_outlive_an_api_killed_between_accept_and_start(
    site: Site, endure: Endure
) -> None:
    async def blow(load: Load) -> None:
        site.api_temporal.hang()
        load.ask(4, in_transactions=False)

        async def some_wait_for_temporal() -> bool:
            waiting = await site.rows(
                "SELECT 1 FROM flowtrail.outbox o JOIN flowtrail.run r ON r.id = o.run_id"
                " WHERE r.status = 'accepted' AND o.tries = 1"
            )
            return len(waiting) > 1

        await eventually(some_wait_for_temporal)
        await site.api.kill()

    await endure(site, "API killed between accept and start", blow)


async def test_rows_outlive_a_killed_postgres(site: Site, endure: Endure) -> None:
    async def blow(_: Load) -> None:
        await site.kill_postgres()

    async def recover(_: Load) -> None:
        await asyncio.to_thread(site.servers.start_postgres)

    await endure(site, "Postgres killed", blow, meanwhile=Load.held_closed, recover=recover)


async def test_starts_and_rows_outlive_a_killed_temporal(site: Site, endure: Endure) -> None:
    async def blow(_: Load) -> None:
        await asyncio.to_thread(site.servers.kill_temporal)

    async def recover(_: Load) -> None:
        await asyncio.to_thread(site.servers.start_temporal)

    await endure(site, "Temporal killed", blow, meanwhile=Load.all_accepted, recover=recover)
