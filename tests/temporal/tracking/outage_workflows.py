"""A workflow whose activities have little time to lose."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy


@activity.defn
async def work(seconds: float) -> float:
    """Works for that long; tells how long, by its own clock."""
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return time.monotonic() - began


@workflow.defn
class Hurrying:
    """Steps that must end within a second, at the first attempt."""

    @workflow.run
    async def run(self, seconds: float, steps: int) -> int:
        for _ in range(steps):
            await workflow.execute_activity(
                work,
                seconds,
                start_to_close_timeout=timedelta(seconds=1),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        return steps
