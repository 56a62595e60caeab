"""Networks that fail: between the processes and Postgres, and between them and Temporal."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Endure
from tests.faults.load import Load
from tests.faults.site import Site
from tests.proxy import TcpProxy
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)
SLOW = 0.15
"""Seconds by which each packet is late."""


def _break(trouble: str, *proxies: TcpProxy) -> None:
    for proxy in proxies:
        if trouble == "delays":
            proxy.delay(SLOW)
        else:
            getattr(proxy, trouble.removesuffix("s"))()


@pytest.mark.parametrize("trouble", ["hangs", "resets", "delays"])
async def test_runs_do_not_notice_that_postgres(site: Site, endure: Endure, trouble: str) -> None:
    async def blow(_: Load) -> None:
        _break(trouble, site.worker_database, site.api_database)

    await endure(site, f"Postgres's network {trouble}", blow, meanwhile=Load.held_closed)


@pytest.mark.parametrize("trouble", ["hangs", "resets", "delays"])
async def test_starts_are_accepted_while_temporal(site: Site, endure: Endure, trouble: str) -> None:
    async def blow(_: Load) -> None:
        _break(trouble, site.worker_temporal, site.api_temporal)

    await endure(site, f"Temporal's network {trouble}", blow, meanwhile=Load.all_accepted)


async def test_a_flush_whose_answer_was_lost_is_made_twice_to_no_effect(
    site: Site, endure: Endure
) -> None:
    async def blow(_: Load) -> None:
        site.worker_database.lose_answers()

    async def flushed_in_vain(load: Load) -> None:
        await load.held_closed()
        for worker in site.workers:
            await worker.says("cannot write tracker events")

    async def flushed_again(_: Load) -> None:
        site.worker_database.pass_on()
        for worker in site.workers:
            await worker.says("tracker events are written again")
        await eventually(lambda: not list(site.spill_dir.glob("*.spill")))

    await endure(site, "flush made twice", blow, meanwhile=flushed_in_vain, recover=flushed_again)
