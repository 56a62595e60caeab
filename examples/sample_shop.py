"""A sample shop in memory, for trying the order example: no real stock, money or couriers.

It forgets everything when its process ends. The card `card-declined` is declined, `card-busy` is
told to come back in a second at the first try of each order, and no courier goes to an address with
the word `nowhere`.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from activities.orders import (
    AddressUnknown,
    CardDeclined,
    GatewayBusy,
    OrderActivities,
    OutOfStock,
)


class SampleInventory:
    """Stock by SKU; reservations by order."""

    def __init__(self, stock: dict[str, int]) -> None:
        self.stock = Counter(stock)
        self.reserved: dict[str, tuple[str, int]] = {}

    async def reserve(self, order_id: str, sku: str, quantity: int) -> None:
        """Set goods aside; a second call for the order changes nothing."""
        if order_id in self.reserved:
            return
        if self.stock[sku] < quantity:
            raise OutOfStock(f"{self.stock[sku]} of {sku} in stock, {quantity} ordered")
        self.stock[sku] -= quantity
        self.reserved[order_id] = (sku, quantity)

    async def release(self, order_id: str) -> None:
        """Put the goods back."""
        sku, quantity = self.reserved.pop(order_id, ("", 0))
        self.stock[sku] += quantity


class SamplePayments:
    """Charges by order, in cents."""

    def __init__(self) -> None:
        self.charged: dict[str, int] = {}
        self.refunded: dict[str, int] = {}
        self._turned_away: set[str] = set()

    async def charge(self, order_id: str, card: str, cents: int) -> str:
        """Charge once per order."""
        if card == "card-declined":
            raise CardDeclined("the bank declined the card")
        if card == "card-busy" and order_id not in self._turned_away:
            self._turned_away.add(order_id)
            raise GatewayBusy(retry_after="1")
        self.charged.setdefault(order_id, cents)
        return f"pay-{_number(order_id)}"

    async def refund(self, order_id: str) -> None:
        """Pay back what was charged, once."""
        if order_id in self.charged:
            self.refunded[order_id] = self.charged.pop(order_id)


class SampleShipping:
    """Parcels and tracking numbers by order."""

    def __init__(self) -> None:
        self.packed: set[str] = set()
        self.collected: dict[str, str] = {}

    async def pack(self, order_id: str, sku: str, quantity: int) -> None:
        """Make one parcel per order."""
        self.packed.add(order_id)

    async def book_courier(self, order_id: str, address: str) -> str:
        """One tracking number per order."""
        if "nowhere" in address.lower():
            raise AddressUnknown(f"no courier goes to {address!r}")
        return self.collected.setdefault(order_id, f"track-{_number(order_id)}")


def sample_order_activities() -> OrderActivities:
    """Activities of a new sample shop that sells `book` and `lamp`."""
    inventory = SampleInventory({"book": 1000, "lamp": 10})
    return OrderActivities(inventory, SamplePayments(), SampleShipping())


def _number(order_id: str) -> str:
    return sha256(order_id.encode()).hexdigest()[:10]
