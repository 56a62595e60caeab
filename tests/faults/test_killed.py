"""SIGKILL to each kind of process under load."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.conftest import Endure
from tests.faults.load import Load
from tests.faults.site import Site

pytestmark = pytest.mark.timeout(180)


async def test_a_worker_killed_in_mid_step(site: Site, endure: Endure) -> None:
    async def blow(load: Load) -> None:
        await site.workers[0].kill()

    await endure(site, "worker killed in mid-step", blow, may_lose_attempts=True)


async def test_postgres_killed(site: Site, endure: Endure) -> None:
    async def blow(load: Load) -> None:
        await asyncio.to_thread(site.servers.kill_postgres)

    async def recover(load: Load) -> None:
        await asyncio.to_thread(site.servers.start_postgres)

    await endure(site, "Postgres killed", blow, recover=recover)


async def test_temporal_killed(site: Site, endure: Endure) -> None:
    async def blow(load: Load) -> None:
        await asyncio.to_thread(site.servers.kill_temporal)

    async def recover(load: Load) -> None:
        await asyncio.to_thread(site.servers.start_temporal)

    await endure(site, "Temporal killed", blow, recover=recover)
