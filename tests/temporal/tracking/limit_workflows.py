"""Workflows whose live view is wrong, or whose past is changed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from tracker.activity import RetryAfter

SOON = timedelta(seconds=10)
TOO_MUCH = "x" * 2_200_000
"""More than the 2 MB that the server takes as one payload."""


@activity.defn
async def produce(much: bool) -> str:
    """Returns more than the server takes, or little."""
    return TOO_MUCH if much else "little"


@activity.defn
async def shout(word: str) -> str:
    """Some work."""
    return word.upper()


class Moody:
    """An activity that counts its own calls, for its number may be reset."""

    def __init__(self) -> None:
        self.calls = 0

    @activity.defn
    async def work_sometimes(self) -> int:
        """Fails, then asks for a long pause, then works."""
        self.calls += 1
        if self.calls == 1:
            raise ValueError("not yet")
        if self.calls == 2:
            raise RetryAfter("much later", 3600)
        return self.calls


class Cleaner:
    """An activity that cleans up when it is allowed to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.allowed = asyncio.Event()

    @activity.defn
    async def clean(self) -> str:
        """Waits until it may."""
        self.entered.set()
        await self.allowed.wait()
        return "clean"


@workflow.defn
class Producing:
    """Has too much in a step's result or in its own."""

    @workflow.run
    async def run(self, in_step: bool) -> str:
        produced = await workflow.execute_activity(
            produce,
            in_step,
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        return produced if in_step else TOO_MUCH


@workflow.defn
class Repeating:
    """Two steps, so that a reset can be between them."""

    @workflow.run
    async def run(self, word: str) -> list[str]:
        return [
            await workflow.execute_activity(shout, one, start_to_close_timeout=SOON)
            for one in (word, word + word)
        ]


@workflow.defn
class Moods:
    """One activity that is reset while it waits for its next attempt."""

    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity_method(
            Moody.work_sometimes,
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=20)),
        )


@workflow.defn
class Cleaning:
    """Cleans up when it is canceled."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_condition(lambda: False)
        finally:
            await asyncio.shield(
                workflow.execute_activity_method(Cleaner.clean, start_to_close_timeout=SOON)
            )
        return "unreachable"


@workflow.defn
class Passing:
    """Takes the only place in a worker's cache."""

    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(0.01)


WORKFLOWS = [Producing, Repeating, Moods, Cleaning, Passing]
