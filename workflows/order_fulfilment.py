"""Fulfils an order: reserve, charge, ship; what was done is undone when a later part fails.

Start it by the alias `order_fulfilment` with a ref such as `order/o-123`. While the grace period
lasts, the update `change_quantity` changes the order; the signals `hold` and `release` stop it and
let it go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError

from tracker.workflow import Retry, set_metadata, set_ref, step, step_failure, tracked

with workflow.unsafe.imports_passed_through():
    from activities.orders import Order, OrderActivities, Parcel

A_STEP = timedelta(seconds=30)
CHARGE_RETRY = Retry(max_attempts=5, initial=2, backoff="linear", jitter=0.1)
UNDO_RETRY = Retry(initial=1, max_interval=timedelta(minutes=10))
"""Without a limit: nobody's money is kept because a server was away."""

MOST_PER_ORDER = 100


@dataclass(frozen=True)
class OrderResult:
    """An order that is on its way."""

    order_id: str
    payment_id: str
    tracking_number: str
    total_cents: int


@dataclass(frozen=True)
class OrderStatus:
    """Answer of the query `status`."""

    stage: str
    quantity: int
    on_hold: bool


@tracked(alias="order_fulfilment")
@workflow.defn
class OrderFulfilment:
    """grace period → reserve → charge → ship, a workflow of its own."""

    @workflow.init
    def __init__(self, order: Order) -> None:
        self._order = order
        self._stage = "open"
        self._on_hold = False
        self._undo: list[Callable[[OrderActivities, str], Awaitable[None]]] = []

    @workflow.run
    async def run(self, order: Order) -> OrderResult:
        """Fulfil the order; fails or is canceled only after everything was undone."""
        try:
            return await self._fulfil()
        except (FailureError, asyncio.CancelledError) as error:
            await self._compensate(error)
            raise

    @workflow.update
    def change_quantity(self, quantity: int) -> int:
        """Change how many are ordered; gives the new total in cents."""
        self._order = replace(self._order, quantity=quantity)
        return self._order.total_cents

    @change_quantity.validator
    def _check_quantity(self, quantity: int) -> None:
        if self._stage != "open":
            raise ValueError(f"the order can no longer be changed: {self._stage}")
        if not 1 <= quantity <= MOST_PER_ORDER:
            raise ValueError(f"expected quantity to be 1-{MOST_PER_ORDER}, got {quantity}")

    @workflow.signal
    def hold(self) -> None:
        """Stop before the next part."""
        self._on_hold = True

    @workflow.signal
    def release(self) -> None:
        """Go on."""
        self._on_hold = False

    @workflow.query
    def status(self) -> OrderStatus:
        """Where the order is."""
        return OrderStatus(self._stage, self._order.quantity, self._on_hold)

    async def _fulfil(self) -> OrderResult:
        if self._order.grace_seconds > 0:
            await workflow.sleep(self._order.grace_seconds)
        await self._enter("reserving")
        # Noted before the step, not after it: a step that timed out may have had its effect.
        self._undo.append(OrderActivities.release)
        await step(OrderActivities.reserve, self._order, start_to_close_timeout=A_STEP)

        await self._enter("charging")
        self._undo.append(OrderActivities.refund)
        payment_id = await step(
            OrderActivities.charge, self._order, retry=CHARGE_RETRY, start_to_close_timeout=A_STEP
        )
        set_ref("payment", payment_id)

        await self._enter("shipping")
        tracking_number = await self._ship()
        self._stage = "shipped"
        return OrderResult(
            self._order.order_id, payment_id, tracking_number, self._order.total_cents
        )

    async def _enter(self, stage: str) -> None:
        await workflow.wait_condition(lambda: not self._on_hold)
        self._stage = stage

    async def _ship(self) -> str:
        order = self._order
        parcel = Parcel(order.order_id, order.sku, order.quantity, order.address)
        child_id = f"{workflow.info().workflow_id}/ship"
        return await workflow.execute_child_workflow(ShipOrder.run, parcel, id=child_id)

    async def _compensate(self, error: BaseException) -> None:
        self._stage = "undoing"
        if failure := step_failure(error):
            set_metadata(failed_step=failure.step, reason=failure.error_type)
        for undo in reversed(self._undo):
            await step(undo, self._order.order_id, retry=UNDO_RETRY, start_to_close_timeout=A_STEP)
        self._stage = "undone"


@workflow.defn
class ShipOrder:
    """pack → book-courier, for one parcel."""

    @workflow.run
    async def run(self, parcel: Parcel) -> str:
        """Ship the parcel; gives its tracking number."""
        await step(OrderActivities.pack, parcel, start_to_close_timeout=A_STEP)
        return await step(
            OrderActivities.book_courier,
            parcel,
            name="book-courier",
            start_to_close_timeout=A_STEP,
        )
