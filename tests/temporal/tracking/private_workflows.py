"""Workflows whose types mark a secret, in every place where a value can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel
from temporalio import activity, workflow

from tracker.core.redaction import Redact
from tracker.workflow import step

SOON = timedelta(seconds=10)
Secret = Annotated[str, Redact]


@dataclass
class Card:
    """A secret in a dataclass."""

    number: Secret
    month: int = 1


class Receipt(BaseModel):
    """Secrets in a model of pydantic's, nested in a list."""

    order: str
    cards: list[Card] = []


@dataclass
class Purchase:
    """Secrets two levels down, and by themselves."""

    order: str
    card: Card
    spare: dict[str, Card] = field(default_factory=dict[str, Card])


class Till:
    """Activities as methods."""

    @activity.defn
    async def charge(self, order: str, card: Card) -> Receipt:
        """Returns what it was given."""
        return Receipt(order=order, cards=[card])


@activity.defn(name="remember-card")
async def remember(card: Card) -> Secret:
    """Returns the secret itself."""
    return card.number


@workflow.defn
class Buying:
    """Passes a secret on to whatever takes values."""

    def __init__(self) -> None:
        self._cards: list[Card] = []

    @workflow.run
    async def run(self, purchase: Purchase) -> Receipt:
        receipt = await step(
            Till.charge,
            args=[purchase.order, purchase.card],
            name="pay",
            start_to_close_timeout=SOON,
        )
        await workflow.execute_local_activity(remember, purchase.card, start_to_close_timeout=SOON)
        await workflow.execute_child_workflow(Vault.run, purchase.card)
        await workflow.wait_condition(lambda: len(self._cards) == 2)
        return Receipt(order=receipt.order, cards=[*receipt.cards, *self._cards])

    @workflow.signal
    def another(self, card: Card) -> None:
        """One more card."""
        self._cards.append(card)

    @workflow.update
    async def replace(self, number: Secret, order: str) -> Card:
        """One more, answered."""
        self._cards.append(Card(number))
        return Card(number, len(order))


@workflow.defn
class Vault:
    """A child."""

    @workflow.run
    async def run(self, card: Card) -> Secret:
        return card.number


@activity.defn
async def carry(secret: str) -> str:
    """Returns what it was given."""
    return secret


@workflow.defn
class Carrying:
    """Passes a value on that no type marks."""

    @workflow.run
    async def run(self, secret: str) -> list[str]:
        return [
            await step(carry, secret, start_to_close_timeout=SOON),
            await workflow.execute_local_activity(carry, secret, start_to_close_timeout=SOON),
        ]


WORKFLOWS = [Buying, Vault]
ACTIVITIES = [Till().charge, remember]
UNMARKED = [Carrying]
