"""A tracked workflow of two steps, the second of which fails once."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow

from tracker.workflow import Retry, step


@activity.defn
def reserve(order: str) -> str:
    """Synchronous, so that the environment's threads are used."""
    return f"reserved {order}"


@activity.defn
async def charge(order: str) -> str:
    """Fails at the first try."""
    if activity.info().attempt == 1:
        raise ConnectionError("bank away")
    return f"charged {order}"


@workflow.defn
class Order:
    """reserve → charge."""

    @workflow.run
    async def run(self, order: str) -> str:
        """Two steps."""
        await step(reserve, order, start_to_close_timeout=timedelta(seconds=5))
        retry = Retry(max_attempts=3, initial=timedelta(milliseconds=10))
        return await step(charge, order, retry=retry, start_to_close_timeout=timedelta(seconds=5))
