"""A workflow with everything that the SDK can do to a run, for tests against the real API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError


@dataclass
class Purchase:
    """Input of `Checkout`."""

    sku: str
    waits: bool = False
    fails: bool = False
    rounds: int = 1


@activity.defn
async def price_of(sku: str) -> int:
    """Cents."""
    return 100 * len(sku)


@workflow.defn
class Checkout:
    """Prices a purchase; waits, fails or continues as new on request."""

    def __init__(self) -> None:
        self._paid = False
        self._notes: list[str] = []

    @workflow.run
    async def run(self, purchase: Purchase) -> dict[str, int | str]:
        price = await workflow.execute_activity(
            price_of, purchase.sku, start_to_close_timeout=timedelta(seconds=10)
        )
        if purchase.waits:
            await workflow.wait_condition(lambda: self._paid)
        if purchase.fails:
            raise ApplicationError("no funds", type="CardDeclined", non_retryable=True)
        if purchase.rounds > 1:
            purchase.rounds -= 1
            workflow.continue_as_new(purchase)
        return {"sku": purchase.sku, "cents": price}

    @workflow.signal
    def pay(self, by: str) -> None:
        self._notes.append(by)
        self._paid = True

    @workflow.query
    def notes(self) -> list[str]:
        return self._notes

    @workflow.update
    def note(self, text: str) -> int:
        self._notes.append(text)
        return len(self._notes)
