"""A workflow that is told things from outside."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

from tracker.workflow import set_metadata

SOON = timedelta(seconds=10)


@activity.defn
async def look_up(word: str) -> str:
    """Some work of an update handler."""
    return word.upper()


@workflow.defn
class Mailbox:
    """Waits until it is told to end; takes signals and updates."""

    def __init__(self) -> None:
        self._words: list[str] = []

    @workflow.run
    async def run(self, greeting: str = "") -> list[str]:
        await workflow.wait_condition(
            lambda: "end" in self._words and workflow.all_handlers_finished()
        )
        return [greeting, *self._words]

    @workflow.signal
    def tell(self, word: str) -> None:
        self._words.append(word)

    @workflow.update
    async def rename(self, word: str, how: str = "") -> dict[str, Any]:
        found = await workflow.execute_activity(look_up, word, start_to_close_timeout=SOON)
        if how == "fail":
            raise ApplicationError(f"no such name: {word}", type="NoSuchName")
        if how == "wait":
            await workflow.wait_condition(lambda: "end" in self._words)
        if how == "cancel":
            raise asyncio.CancelledError
        set_metadata(name=found)
        return {"name": found}

    @rename.validator
    def check(self, word: str, how: str = "") -> None:
        if not word:
            raise ValueError("expected a word")
