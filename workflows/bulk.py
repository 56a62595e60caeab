"""The workflow behind `/v1/bulk`: gather the runs, act on them, say how it ended.

It only holds the thread; runs, counts and errors stand in the tables, for they may be many.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

from tracker.temporal.bulk.order import ACT, BULK_WORKFLOW, END, GATHER, BulkEnd, BulkOrder

HEARTBEAT = timedelta(seconds=10)
"""How long a killed worker goes unnoticed."""
FOR_EVER = RetryPolicy(
    maximum_interval=timedelta(seconds=10),
    non_retryable_error_types=["TooManyRuns", "InvalidRequest", "ValidationError"],
)


@workflow.defn(name=BULK_WORKFLOW)
class Bulk:
    """One action on every run of a filter."""

    @workflow.run
    async def run(self, order: BulkOrder) -> str:
        """Carry it out; gives how it ended."""
        try:
            await self._step(GATHER, order, timedelta(hours=1))
            await self._step(ACT, order, timedelta(days=30))
        except (ActivityError, asyncio.CancelledError) as error:
            if is_cancelled_exception(error):
                await self._end(BulkEnd(order.bulk_id, "canceled"))
            else:
                cause = error.cause if isinstance(error, ActivityError) else None
                await self._end(BulkEnd(order.bulk_id, "failed", str(cause or error)))
            raise
        await self._end(BulkEnd(order.bulk_id, "completed"))
        return "completed"

    async def _step(self, name: str, order: BulkOrder, within: timedelta) -> None:
        await workflow.execute_activity(
            name,
            order,
            start_to_close_timeout=within,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=FOR_EVER,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    async def _end(self, end: BulkEnd) -> None:
        await workflow.execute_activity(
            END, end, start_to_close_timeout=timedelta(seconds=30), retry_policy=FOR_EVER
        )
