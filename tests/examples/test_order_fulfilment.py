"""The order example on a real Temporal: what happens, what is undone, and that it replays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.worker import Replayer, Worker

from activities.orders import Order, OrderActivities
from examples.sample_shop import SampleInventory, SamplePayments, SampleShipping
from tests.waiting import eventually
from tracker.core.ids import Ref
from tracker.core.memo import MEMO_FIELD, Carried, read_memo
from tracker.workflow import StepFailure, step_failure
from workflows.order_fulfilment import OrderFulfilment, OrderResult, ShipOrder

QUEUE = "orders"


class Shop:
    """A sample shop whose books can be read."""

    def __init__(self, shipping: SampleShipping | None = None) -> None:
        self.inventory = SampleInventory({"book": 10})
        self.payments = SamplePayments()
        self.shipping = shipping or SampleShipping()

    @asynccontextmanager
    async def open(self, client: Client) -> AsyncGenerator[None]:
        shop = OrderActivities(self.inventory, self.payments, self.shipping)
        async with Worker(
            client,
            task_queue=QUEUE,
            workflows=[OrderFulfilment, ShipOrder],
            activities=[
                shop.reserve,
                shop.release,
                shop.charge,
                shop.refund,
                shop.pack,
                shop.book_courier,
            ],
        ):
            yield

    def is_as_before(self) -> bool:
        """Whether all goods are back and nobody's money is kept."""
        return self.inventory.stock["book"] == 10 and not self.payments.charged


class StuckShipping(SampleShipping):
    """Never gets a parcel packed."""

    def __init__(self) -> None:
        super().__init__()
        self.packing = asyncio.Event()

    async def pack(self, order_id: str, sku: str, quantity: int) -> None:
        self.packing.set()
        await asyncio.Event().wait()


async def test_an_order_is_reserved_charged_and_shipped(temporal_client: Client) -> None:
    shop = Shop()
    async with shop.open(temporal_client):
        handle = await start(temporal_client, an_order(quantity=3))
        result = await handle.result()

    assert result.total_cents == shop.payments.charged[result.order_id] == 3 * 1250
    assert shop.inventory.stock["book"] == 7
    assert shop.shipping.collected == {result.order_id: result.tracking_number}
    assert (await memo_of(handle)).links == (Ref("payment", result.payment_id),)
    child = temporal_client.get_workflow_handle(f"{handle.id}/ship")
    assert await activity_types(handle) == ["reserve", "charge"]
    assert await activity_types(child) == ["pack", "book_courier"]
    await replay(handle)
    await replay(child)


async def test_a_declined_card_is_tried_once_and_the_goods_go_back(temporal_client: Client) -> None:
    shop = Shop()
    async with shop.open(temporal_client):
        handle = await start(temporal_client, an_order(card="card-declined"))
        failure = await failure_of(handle)

    assert (failure.step, failure.error_type) == ("charge", "CardDeclined")
    assert failure.retry_state == "non_retryable_failure"
    assert shop.is_as_before()
    assert await activity_types(handle) == ["reserve", "charge", "refund", "release"]
    assert (await memo_of(handle)).metadata == {"failed_step": "charge", "reason": "CardDeclined"}
    await replay(handle)


async def test_an_order_that_cannot_be_shipped_is_paid_back(temporal_client: Client) -> None:
    shop = Shop()
    async with shop.open(temporal_client):
        handle = await start(temporal_client, an_order(address="Nowhere 1"))
        failure = await failure_of(handle)

    assert (failure.step, failure.error_type) == ("ShipOrder", "AddressUnknown")
    assert shop.is_as_before()
    assert list(shop.payments.refunded.values()) == [1250]
    await replay(handle)


async def test_more_than_is_in_stock_is_never_charged(temporal_client: Client) -> None:
    shop = Shop()
    async with shop.open(temporal_client):
        failure = await failure_of(await start(temporal_client, an_order(quantity=11)))

    assert failure.details == ("book",)
    assert shop.is_as_before()
    assert not shop.payments.refunded


async def test_a_busy_gateway_is_asked_again_when_it_said(temporal_client: Client) -> None:
    shop = Shop()
    async with shop.open(temporal_client):
        handle = await start(temporal_client, an_order(card="card-busy"))
        result = await handle.result()

    assert shop.payments.charged == {result.order_id: 1250}
    attempts = [
        event.activity_task_started_event_attributes.attempt
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_started_event_attributes")
    ]
    assert attempts == [1, 2]


async def test_an_order_can_be_changed_while_the_grace_period_lasts(
    temporal_client: Client,
) -> None:
    shop = Shop()
    async with shop.open(temporal_client):
        handle = await start(temporal_client, an_order(grace_seconds=1.0))
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(OrderFulfilment.change_quantity, 0)
        total = await handle.execute_update(OrderFulfilment.change_quantity, 4)
        result = await handle.result()

    assert "expected quantity to be 1-100, got 0" in str(refused.value.cause)
    assert total == result.total_cents == 4 * 1250
    assert shop.inventory.stock["book"] == 6
    await replay(handle)


async def test_an_order_on_hold_waits_and_can_no_longer_be_changed(temporal_client: Client) -> None:
    shop = Shop()
    async with shop.open(temporal_client):
        handle = await start(temporal_client, an_order(grace_seconds=0.2))
        await handle.signal(OrderFulfilment.hold)
        status = await handle.query(OrderFulfilment.status)
        assert (status.stage, status.quantity, status.on_hold) == ("open", 1, True)
        await handle.signal(OrderFulfilment.release)
        await handle.result()
        status = await handle.query(OrderFulfilment.status)

    assert (status.stage, status.on_hold) == ("shipped", False)
    await replay(handle)


async def test_a_canceled_order_is_undone_before_it_is_canceled(temporal_client: Client) -> None:
    shipping = StuckShipping()
    shop = Shop(shipping)
    async with shop.open(temporal_client):
        handle = await start(temporal_client, an_order())
        await eventually(shipping.packing.is_set)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()

    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert shop.is_as_before()
    assert list(shop.payments.refunded.values()) == [1250]
    await replay(handle)


def an_order(**changes: Any) -> Order:
    order: dict[str, Any] = {
        "order_id": f"o-{uuid4()}",
        "sku": "book",
        "quantity": 1,
        "unit_price_cents": 1250,
        "card": "card-good",
        "address": "Main Street 1",
    }
    return Order(**(order | changes))


async def start(client: Client, order: Order) -> WorkflowHandle[OrderFulfilment, OrderResult]:
    return await client.start_workflow(
        OrderFulfilment.run,
        order,
        id=f"order-{order.order_id}",
        task_queue=QUEUE,
        execution_timeout=timedelta(seconds=20),
    )


async def failure_of(handle: WorkflowHandle[Any, Any]) -> StepFailure:
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    failure = step_failure(raised.value)
    assert failure is not None
    return failure


async def memo_of(handle: WorkflowHandle[Any, Any]) -> Carried:
    return read_memo(await (await handle.describe()).memo_value(MEMO_FIELD, None))


async def activity_types(handle: WorkflowHandle[Any, Any]) -> list[str]:
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        async for event in handle.fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
    ]


async def replay(handle: WorkflowHandle[Any, Any]) -> None:
    replayer = Replayer(workflows=[OrderFulfilment, ShipOrder])
    await replayer.replay_workflow(await handle.fetch_history())
