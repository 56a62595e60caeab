"""What `/v1/bulk` does: count, start, show and cancel actions on many runs.

Temporal is told first, then the tables: whatever Temporal has taken is carried out, and its first
activity puts it on record should we die in between.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from tracker.core.ids import keyed_bulk_id, new_id
from tracker.core.status import ENDED_BULKS, BulkStatus
from tracker.errors import Conflict, IdempotencyConflict, NotFound
from tracker.models.control import BulkPreview, BulkRead, StartBulk
from tracker.models.wire import RunRead
from tracker.store import bulk
from tracker.store.audit import DONE, Action, record_action
from tracker.temporal.bulk.carrying_out import matching, put_on_record, too_many
from tracker.temporal.bulk.order import (
    BULK_QUEUE,
    BULK_WORKFLOW,
    BulkOrder,
    bulk_workflow_id,
)
from tracker.temporal.reach import Reach
from tracker.temporal.rpc import bounded_call, is_unknown_run, translate

SHOWN = 10
"""Runs that a dry run shows."""


class BulkService:
    """Bulk actions of a namespace, as the API gives them."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._namespace = reach.client.namespace

    async def preview(self, request: StartBulk) -> BulkPreview:
        """Count the runs that an action would take, up to one more than it may."""
        count, first = await self._look(request)
        return BulkPreview(count=count, exceeds_max_runs=count > request.max_runs, runs=first)

    async def start(self, request: StartBulk, *, actor: str) -> BulkRead:
        """Begin an action, once for each idempotency key.

        Raises:
            TooManyRuns: The filter has more runs than `max_runs`.
            IdempotencyConflict: The key was used for another action.
            TemporalUnavailable: It may or may not have begun; a key makes the repetition safe.
        """
        key = request.idempotency_key
        bulk_id = new_id() if key is None else keyed_bulk_id(self._namespace, key)
        filters = request.filter.model_dump(mode="json", exclude_unset=True)
        if key is not None and (known := await self._known(bulk_id)) is not None:
            if (known.action, known.filter) != (request.action, filters):
                raise IdempotencyConflict(
                    f"the idempotency key {key!r} was used for another bulk action",
                    idempotency_key=key,
                    bulk_id=str(bulk_id),
                )
            return known
        count, _ = await self._look(request)
        if count > request.max_runs:
            raise too_many(request.max_runs)
        order = _order(bulk_id, request, filters, actor)
        await self._begin(order)
        await put_on_record(self._reach, order)
        await self._audit(f"bulk_{request.action}", actor, request.reason, bulk_id)
        return await self.get(bulk_id)

    async def get(self, bulk_id: UUID) -> BulkRead:
        """An action and how far it is.

        Raises:
            NotFound: There is none.
        """
        return await bulk.get_bulk(self._reach.database, self._namespace, bulk_id)

    async def cancel(self, bulk_id: UUID, *, actor: str, reason: str | None) -> BulkRead:
        """Stop an action; runs that it has dealt with stay dealt with.

        Raises:
            NotFound: There is none.
            Conflict: It has ended.
            TemporalUnavailable: Try again.
        """
        known = await self.get(bulk_id)
        if known.status in ENDED_BULKS:
            raise Conflict(f"the bulk action has ended as {known.status}", bulk_id=str(bulk_id))
        handle = self._reach.client.get_workflow_handle(bulk_workflow_id(bulk_id))
        try:
            async with bounded_call(self._reach.seconds):
                await handle.cancel()
        except RPCError as error:
            if not is_unknown_run(error):
                raise translate(error) from error
            # Somebody ended its workflow by other means: nobody else will say so.
            await bulk.end_bulk(self._reach.database, bulk_id, BulkStatus.CANCELED)
        await self._audit("bulk_cancel_action", actor, reason, bulk_id)
        return await self.get(bulk_id)

    async def _begin(self, order: BulkOrder) -> None:
        try:
            async with bounded_call(self._reach.seconds):
                await self._reach.client.start_workflow(
                    BULK_WORKFLOW,
                    order,
                    id=bulk_workflow_id(order.bulk_id),
                    task_queue=BULK_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                )
        except WorkflowAlreadyStartedError:
            return
        except RPCError as error:
            raise translate(error) from error

    async def _known(self, bulk_id: UUID) -> BulkRead | None:
        try:
            return await self.get(bulk_id)
        except NotFound:
            return None

    async def _look(self, request: StartBulk) -> tuple[int, list[RunRead]]:
        """How many runs an action would take, up to one more than it may, and the first of them."""
        count, first = 0, list[RunRead]()
        async for runs in matching(self._reach, request.filter):
            first = first or runs[:SHOWN]
            count += len(runs)
            if count > request.max_runs:
                return request.max_runs + 1, first
        return count, first

    async def _audit(self, action: str, actor: str, reason: str | None, bulk_id: UUID) -> None:
        entry = Action(
            actor=actor,
            action=action,
            run_id=None,
            outcome=DONE,
            reason=reason,
            details={"bulk": str(bulk_id)},
        )
        await record_action(self._reach.database, self._namespace, entry)


def _order(bulk_id: UUID, request: StartBulk, filters: dict[str, Any], actor: str) -> BulkOrder:
    return BulkOrder(
        bulk_id=str(bulk_id),
        action=request.action,
        filter=filters,
        actor=actor,
        rate=request.rate,
        max_runs=request.max_runs,
        reason=request.reason,
        signal_name=request.signal_name,
        signal_args=request.signal_args,
    )
