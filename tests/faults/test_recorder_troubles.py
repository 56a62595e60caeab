"""What hits a worker's recording alone: a full disk, a clock that jumps, an event that is poison,
a second reconciler."""

from __future__ import annotations

import resource
from datetime import UTC, datetime, timedelta
from signal import SIGCONT, SIGSTOP, SIGUSR1, SIGUSR2, Signals

import pytest

from tests.faults.conftest import Endure
from tests.faults.load import FREE, Load
from tests.faults.site import Site
from tests.faults.worker import CLOCK_MOVED
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)

FULL_AT = 16_384
"""Bytes at which the kernel refuses to let a file of the worker grow, its log included: as a full
disk does, with another number of the error. It needs no right to mount a small disk."""
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


async def test_runs_do_not_notice_that_the_spill_disk_is_full(site: Site, endure: Endure) -> None:
    for worker in site.workers:  # A fresh log, which still has room when the spill file has none.
        await worker.stop()
        await worker.start()

    async def blow(_: Load) -> None:
        for worker in site.workers:
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (FULL_AT, resource.RLIM_INFINITY))
        site.worker_database.reset()

    async def full(load: Load) -> None:
        await load.held_closed()
        for worker in site.workers:
            await worker.says("tracker events are lost")

    async def recover(_: Load) -> None:
        for worker in site.workers:
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, UNLIMITED)

    await endure(
        site, "spill disk full", blow, meanwhile=full, recover=recover, may_lose_attempts=True
    )


@pytest.mark.parametrize(("there", "back"), [(SIGUSR1, SIGUSR2), (SIGUSR2, SIGUSR1)])
async def test_no_time_on_record_is_a_worker_clocks(
    site: Site, endure: Endure, there: Signals, back: Signals
) -> None:
    began = datetime.now(UTC)
    name = "ahead" if there is SIGUSR1 else "back"

    async def jump(number: Signals) -> None:
        for worker in site.workers:
            told = worker.log.count(CLOCK_MOVED)
            worker.send(number)
            await eventually(lambda w=worker, n=told: w.log.count(CLOCK_MOVED) > n)

    async def blow(_: Load) -> None:
        await jump(there)

    try:
        load = await endure(
            site, f"workers' clocks an hour {name}", blow, meanwhile=Load.held_closed
        )
    finally:
        await jump(back)
    times = await load.recorded(_TIMES)
    assert times
    slack = timedelta(minutes=1)
    for row in times:
        assert began - slack < row["at"] < datetime.now(UTC) + slack, row


_TIMES = """
WITH ours AS (SELECT * FROM flowtrail.run WHERE id = ANY(%s)),
     steps AS (SELECT s.* FROM flowtrail.step s JOIN ours r ON s.run_key = r.run_key),
     tries AS (SELECT a.* FROM flowtrail.attempt a JOIN steps s ON a.step_id = s.id),
     told AS (SELECT to_jsonb(ours) AS j FROM ours UNION ALL SELECT to_jsonb(steps) FROM steps
              UNION ALL SELECT to_jsonb(tries) FROM tries)
SELECT e.key, (e.value #>> '{}')::timestamptz AS at FROM told, jsonb_each(j) e
WHERE e.key LIKE '%%\\_at' AND e.key <> 'projected_at' AND jsonb_typeof(e.value) = 'string'
"""
"""`projected_at` is the reconciler's own clock: no fact about the run."""


async def test_a_poison_event_costs_only_itself(site: Site, endure: Endure) -> None:
    poison = FREE + 2  # Its first step succeeds at once, so that history knows that attempt too.

    async def blow(_: Load) -> None:
        await site.rows(
            "ALTER TABLE flowtrail.attempt ADD CONSTRAINT poison"
            f" CHECK (annotations->>'ledger' IS DISTINCT FROM '{poison}') NOT VALID"
        )

    async def recover(_: Load) -> None:
        await eventually(
            lambda: any("the database refuses a AttemptEnded" in w.log for w in site.workers)
        )

    try:
        await endure(site, "poison event in a batch", blow, recover=recover)
    finally:
        await site.rows("ALTER TABLE flowtrail.attempt DROP CONSTRAINT IF EXISTS poison")


async def test_two_reconcilers_do_no_harm(site: Site, endure: Endure) -> None:
    """Each in turn is stopped in the middle, loses its lock to the other, and wakes up believing
    that it holds it."""

    async def blow(_: Load) -> None:
        for worker in site.workers:
            worker.send(SIGSTOP)
            try:
                robbed = {row["pid"] for row in await site.rows(_ROB)}

                async def taken(robbed: set[int] = robbed) -> bool:
                    return any(row["pid"] not in robbed for row in await site.rows(_HOLDERS))

                await eventually(taken)
            finally:
                worker.send(SIGCONT)

    await endure(site, "two reconcilers", blow)


_HOLDERS = """
SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
"""
_ROB = f"SELECT pid, pg_terminate_backend(pid) FROM ({_HOLDERS}) AS holders"
