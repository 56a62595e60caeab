"""The steps of an order against a shop's inventory, payments and shipping.

Each call carries the order id as its key: the same call twice has the effect of one, and undoing
what never happened does nothing. That makes every step safe to try again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from temporalio import activity

from tracker.activity import NonRetryable, RetryAfter, annotate


@dataclass(frozen=True)
class Order:
    """What a customer ordered; `grace_seconds` is how long it may still be changed."""

    order_id: str
    sku: str
    quantity: int
    unit_price_cents: int
    card: str
    address: str
    grace_seconds: float = 0.0

    @property
    def total_cents(self) -> int:
        """Price of the whole order."""
        return self.quantity * self.unit_price_cents


@dataclass(frozen=True)
class Parcel:
    """What is shipped where."""

    order_id: str
    sku: str
    quantity: int
    address: str


class OutOfStock(Exception):
    """The inventory has fewer than were asked for."""


class CardDeclined(Exception):
    """The bank said no."""


class GatewayBusy(Exception):
    """The payment gateway answered 503; `retry_after` is the text of that header, if any."""

    def __init__(self, retry_after: str | None) -> None:
        super().__init__("the payment gateway is busy")
        self.retry_after = retry_after


class AddressUnknown(Exception):
    """No courier goes there."""


class Inventory(Protocol):
    """Stock of a shop."""

    async def reserve(self, order_id: str, sku: str, quantity: int) -> None:
        """Raises: OutOfStock."""
        ...

    async def release(self, order_id: str) -> None:
        """Give a reservation back."""
        ...


class Payments(Protocol):
    """A payment gateway."""

    async def charge(self, order_id: str, card: str, cents: int) -> str:
        """Returns: Id of the payment. Raises: CardDeclined, GatewayBusy."""
        ...

    async def refund(self, order_id: str) -> None:
        """Pay a charge back."""
        ...


class Shipping(Protocol):
    """A packing station and its couriers."""

    async def pack(self, order_id: str, sku: str, quantity: int) -> None:
        """Make a parcel."""
        ...

    async def book_courier(self, order_id: str, address: str) -> str:
        """Returns: Tracking number. Raises: AddressUnknown."""
        ...


class OrderActivities:
    """Activities of one shop."""

    def __init__(self, inventory: Inventory, payments: Payments, shipping: Shipping) -> None:
        self._inventory = inventory
        self._payments = payments
        self._shipping = shipping

    @activity.defn
    async def reserve(self, order: Order) -> None:
        """Set the goods aside."""
        try:
            await self._inventory.reserve(order.order_id, order.sku, order.quantity)
        except OutOfStock as error:
            raise NonRetryable(str(error), order.sku, type="OutOfStock") from error

    @activity.defn
    async def release(self, order_id: str) -> None:
        """Undo `reserve`."""
        await self._inventory.release(order_id)

    @activity.defn
    async def charge(self, order: Order) -> str:
        """Take the money; gives the id of the payment."""
        annotate(cents=order.total_cents)
        try:
            return await self._payments.charge(order.order_id, order.card, order.total_cents)
        except CardDeclined as error:
            raise NonRetryable(str(error), type="CardDeclined") from error
        except GatewayBusy as error:
            raise RetryAfter(str(error), error.retry_after, type="GatewayBusy") from error

    @activity.defn
    async def refund(self, order_id: str) -> None:
        """Undo `charge`."""
        await self._payments.refund(order_id)

    @activity.defn
    async def pack(self, parcel: Parcel) -> None:
        """Make the parcel."""
        await self._shipping.pack(parcel.order_id, parcel.sku, parcel.quantity)

    @activity.defn
    async def book_courier(self, parcel: Parcel) -> str:
        """Have the parcel collected; gives the tracking number."""
        try:
            return await self._shipping.book_courier(parcel.order_id, parcel.address)
        except AddressUnknown as error:
            raise NonRetryable(str(error), type="AddressUnknown") from error
