"""A workflow that stays open until told, for tests of control."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError


@workflow.defn
class Held:
    """Keeps what it is signaled, until it is released, canceled or terminated."""

    def __init__(self) -> None:
        self._notes: list[Any] = []
        self._released = False

    @workflow.run
    async def run(self) -> list[Any]:
        await workflow.wait_condition(lambda: self._released)
        return self._notes

    @workflow.signal
    def note(self, text: str) -> None:
        self._notes.append(text)

    @workflow.query
    def notes(self) -> list[Any]:
        return self._notes

    @workflow.query
    def odd(self) -> list[Any]:
        return ["\ud800", float("nan")]

    @workflow.update
    async def release(self, after: float) -> str:
        await asyncio.sleep(after)
        self._released = True
        return "released"

    @workflow.update
    async def refuse(self) -> None:
        raise ApplicationError("not today", type="Closed")
