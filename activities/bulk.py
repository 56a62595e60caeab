"""The activities of `workflows.bulk`: they let Temporal know that they live while the work goes on,
however slow its pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio import activity

from tracker.temporal.bulk.carrying_out import BulkWork
from tracker.temporal.bulk.order import ACT, END, GATHER, BulkEnd, BulkOrder

BEAT_SECONDS = 1.0


class BulkActivities:
    """Activities that act on the runs of one namespace."""

    def __init__(self, work: BulkWork) -> None:
        self._work = work

    @activity.defn(name=GATHER)
    async def gather(self, order: BulkOrder) -> int:
        """List the runs; gives how many they are."""
        async with _beating():
            return await self._work.gather(order)

    @activity.defn(name=ACT)
    async def act(self, order: BulkOrder) -> None:
        """Act on every run that is not dealt with."""
        async with _beating():
            await self._work.act(order)

    @activity.defn(name=END)
    async def end(self, end: BulkEnd) -> None:
        """Write down how it ended."""
        await self._work.end(end)


@asynccontextmanager
async def _beating() -> AsyncGenerator[None]:
    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(BEAT_SECONDS)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
