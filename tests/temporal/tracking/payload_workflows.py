"""Workflows that pass values through every place where one can be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

from tracker.activity import annotate, progress
from tracker.workflow import Retry, set_metadata, step

SOON = timedelta(seconds=10)


@dataclass
class Card:
    """A dataclass, which JSON can express."""

    number: str
    months: list[int]


class Order(BaseModel):
    """A model of pydantic's, for its converter."""

    id: int
    price: float
    due: timedelta


ODD: dict[str, Any] = {
    "nan": float("nan"),
    "infinity": float("-inf"),
    "nul": "a\0b",
    "surrogate": "\ud800",
    "bytes": b"\x00\xff",
    "none": None,
    "large": "x" * 5000,
    "long integer": 10**40,
    "deep": [[[[[[1]]]]]],
    "uuid": "01a1f8f7-13ab-7ab3-9d6c-0e228391fc4e",
    "unicode": "naïve ☕ 🚀",
}


@activity.defn
async def make_odd(kind: str) -> Any:
    """Returns an odd value."""
    return ODD[kind]


@activity.defn
async def take(value: Any, second: Any) -> Any:
    """Returns what it was given, changed by its own hands."""
    if isinstance(value, dict):
        value["changed"] = True
    return value


@activity.defn
async def take_card(card: Card) -> Card:
    """Returns what it was given."""
    return Card(card.number, [*card.months, 12])


@activity.defn
async def take_order(order: Order) -> Order:
    """Returns what it was given."""
    return order


@activity.defn
async def spill_the_beans(secret: str, fails: bool) -> str:
    """Tells a secret by every way out of an activity."""
    annotate(told=secret)
    progress(secret, message=secret)
    if fails and activity.info().attempt == 1:
        raise RuntimeError(f"cannot keep {secret}")
    return f"told {secret}"


@workflow.defn
class Odd:
    """A step with an odd result, whose name is the kind."""

    @workflow.run
    async def run(self, kind: str) -> int:
        return len(repr(await step(make_odd, kind, name="odd", start_to_close_timeout=SOON)))


@workflow.defn
class Typed:
    """Steps with typed values."""

    @workflow.run
    async def run(self, how: str) -> Any:
        if how == "dataclass":
            return await step(take_card, Card("4711", [1, 2]), start_to_close_timeout=SOON)
        if how == "pydantic":
            order = Order(id=1, price=2.5, due=timedelta(days=1))
            return await step(take_order, order, start_to_close_timeout=SOON)
        return await step(take, args=[{"a": 1}, [None]], start_to_close_timeout=SOON)


@workflow.defn
class Secretive:
    """Puts a secret wherever a value can be."""

    def __init__(self) -> None:
        self._told: list[str] = []

    @workflow.run
    async def run(self, secret: str, again: bool = True) -> str:
        set_metadata(about=secret)
        retry = Retry(initial=0.02)
        first = await step(
            spill_the_beans, args=[secret, True], retry=retry, start_to_close_timeout=SOON
        )
        await workflow.execute_local_activity(
            spill_the_beans, args=[secret, False], summary=secret, start_to_close_timeout=SOON
        )
        await workflow.execute_child_workflow(Confidant.run, secret)
        await workflow.wait_condition(lambda: len(self._told) > 1 or not again)
        if again:
            workflow.continue_as_new(args=[secret, False])
        await asyncio.sleep(0)
        raise ApplicationError(f"{first} {secret}", secret, type="Told")

    @workflow.signal
    def whisper(self, secret: str) -> None:
        self._told.append(secret)

    @workflow.update
    async def answer(self, secret: str) -> str:
        self._told.append(secret)
        if secret.endswith("!"):
            raise ApplicationError(secret)
        return secret

    @answer.validator
    def check(self, secret: str) -> None:
        if secret.endswith("?"):
            raise ValueError(secret)


@workflow.defn
class Confidant:
    """Returns what it was told."""

    @workflow.run
    async def run(self, secret: str) -> str:
        return secret


WORKFLOWS = [Odd, Typed, Secretive, Confidant]
ACTIVITIES = [make_odd, take, take_card, take_order, spill_the_beans]
