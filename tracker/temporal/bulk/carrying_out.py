"""Carries a bulk action out: gathers its runs, then acts on one after the other, at a pace.

It may be killed anywhere and begun again elsewhere. What a reader gets wrong: "done" is written
after the deed, so after a kill the deed is repeated; each therefore has a key of its own, by which
whoever carries it out knows it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

from tracker.core.ids import bulk_deed_id
from tracker.core.status import BulkAction, BulkStatus
from tracker.errors import Conflict, StartRejected, TooManyRuns, TrackerError, TransientError
from tracker.models.control import BulkFilter, RerunRun, ResetRun
from tracker.models.wire import RunRead
from tracker.store import bulk
from tracker.store.bulk import ClaimedItem
from tracker.store.database import Database
from tracker.store.run_queries import list_runs
from tracker.temporal.bulk.order import BulkEnd, BulkOrder
from tracker.temporal.control import RunControl
from tracker.temporal.reach import Reach
from tracker.temporal.reruns import Reruns
from tracker.temporal.resets import Resets
from tracker.temporal.start_service import StartOutcome, StartService

PAGE = 500
CLAIM = 50
"""Runs that are taken at once."""
AT_ONCE = 8
TRIES = 5
"""Of one run, while what it needs is away; then it counts as failed and the others go on."""


class BulkWork:
    """Carries out bulk actions of one namespace.

    Args:
        reach: Of the namespace.
        starts: Starts what is rerun.
        clock: Monotonic seconds.
        sleep: Coroutine function that pauses.
    """

    def __init__(
        self,
        reach: Reach,
        starts: StartService,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reach = reach
        self._starts = starts
        self._clock = clock
        self._sleep = sleep

    async def gather(self, order: BulkOrder) -> int:
        """List the runs of an action; nothing is done to them yet. Gives how many they are.

        Raises:
            TooManyRuns: They are more than it may take.
        """
        bulk_id = UUID(order.bulk_id)
        await put_on_record(self._reach, order)
        found = 0
        async for runs in matching(self._reach, BulkFilter.model_validate(order.filter)):
            found += len(runs)
            if found > order.max_runs:
                raise too_many(order.max_runs)
            await bulk.add_items(self._database, bulk_id, [run.run_id for run in runs])
        await bulk.start_acting(self._database, bulk_id)
        return found

    async def act(self, order: BulkOrder) -> None:
        """Act on every run that is not dealt with.

        Raises:
            TransientError: Something is away; what was done is on record, call it again.
        """
        bulk_id = UUID(order.bulk_id)
        pace = _Pace(order.rate, self._clock, self._sleep)
        deeds = _Deeds(self._reach, self._starts, order)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(item: ClaimedItem) -> None:
            async with room:
                await pace.turn()
                await self._act_on(bulk_id, item, deeds)

        while items := await bulk.claim_items(self._database, bulk_id, CLAIM):
            outcomes = await asyncio.gather(*map(one, items), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    async def end(self, end: BulkEnd) -> None:
        """Write down how an action ended."""
        await bulk.end_bulk(self._database, UUID(end.bulk_id), BulkStatus(end.status), end.error)

    async def _act_on(self, bulk_id: UUID, item: ClaimedItem, deeds: _Deeds) -> None:
        try:
            new_run_id = await deeds.carry_out(item)
        except TransientError as error:
            if item.tries < TRIES:
                raise
            await self._failed(bulk_id, item, error)
        except TrackerError as error:
            await self._failed(bulk_id, item, error)
        else:
            await bulk.end_item(self._database, bulk_id, item.run_id, new_run_id=new_run_id)

    async def _failed(self, bulk_id: UUID, item: ClaimedItem, error: TrackerError) -> None:
        await bulk.end_item(
            self._database,
            bulk_id,
            item.run_id,
            error_code=error.code,
            error_message=error.message,
        )

    @property
    def _database(self) -> Database:
        return self._reach.database


class _Deeds:
    """What is done to one run."""

    def __init__(self, reach: Reach, starts: StartService, order: BulkOrder) -> None:
        reach = reach.noting(bulk=order.bulk_id)
        self._order = order
        self._control = RunControl(reach)
        self._reruns = Reruns(reach, starts)
        self._resets = Resets(reach)

    async def carry_out(self, item: ClaimedItem) -> UUID | None:
        """Do it; gives the run that it made, if it made one."""
        order, run_id = self._order, item.run_id
        key = bulk_deed_id(UUID(order.bulk_id), run_id)
        match BulkAction(order.action):
            case BulkAction.CANCEL:
                return await self._end(item, self._control.cancel)
            case BulkAction.TERMINATE:
                return await self._end(item, self._control.terminate)
            case BulkAction.SIGNAL:
                await self._control.signal(
                    run_id,
                    order.signal_name or "",
                    order.signal_args,
                    actor=order.actor,
                    reason=order.reason,
                    request_id=str(key),
                )
                return None
            case BulkAction.RERUN:
                return await self._rerun(run_id, key)
            case BulkAction.RESET:
                request = ResetRun(reason=order.reason)
                answer = await self._resets.reset(
                    run_id, request, actor=order.actor, request_id=str(key)
                )
                return answer.new_run_id

    async def _end(self, item: ClaimedItem, end: Callable[..., Awaitable[object]]) -> None:
        try:
            await end(item.run_id, actor=self._order.actor, reason=self._order.reason)
        except Conflict:
            # An earlier try may have ended it and been killed before it could say so.
            if item.tries == 1:
                raise

    async def _rerun(self, run_id: UUID, key: UUID) -> UUID:
        request = RerunRun(reason=self._order.reason, idempotency_key=f"bulk/{key}")
        result = await self._reruns.rerun(run_id, request, actor=self._order.actor)
        if result.outcome is StartOutcome.REJECTED:
            error = result.run.error
            raise StartRejected(f"Temporal refuses it: {error and error.message}")
        return result.run.run_id


class _Pace:
    """Gives turns, so many a second."""

    def __init__(
        self, rate: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._interval = 1 / rate
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    async def turn(self) -> None:
        now = self._clock()
        mine = max(self._next, now)
        self._next = mine + self._interval
        if mine > now:
            await self._sleep(mine - now)


async def put_on_record(reach: Reach, order: BulkOrder) -> None:
    """Write down that an action was asked for; safe to repeat."""
    await bulk.create_bulk(
        reach.database,
        reach.client.namespace,
        UUID(order.bulk_id),
        action=order.action,
        filters=order.filter,
        actor=order.actor,
        reason=order.reason,
        rate=order.rate,
    )


async def matching(reach: Reach, filters: BulkFilter) -> AsyncIterator[list[RunRead]]:
    """The runs of a filter, page by page."""
    database, namespace = reach.database, reach.client.namespace
    cursor: str | None = None
    while True:
        page = await list_runs(
            database, namespace, filters.model_copy(update={"limit": PAGE, "cursor": cursor})
        )
        yield page.runs
        cursor = page.next_cursor
        if cursor is None:
            return


def too_many(max_runs: int) -> TooManyRuns:
    """The error for a filter with more runs than an action may take."""
    return TooManyRuns(
        f"the filter has more than {max_runs} runs; narrow it, or raise max_runs",
        max_runs=max_runs,
    )
