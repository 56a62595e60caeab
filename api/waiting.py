"""Waiting, for the end of a run or whatever else, without holding a database connection meanwhile
and without holding up a process that is to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

from tracker.models.wire import RunResult
from tracker.store.database import Database
from tracker.store.run_detail import get_result

T = TypeVar("T")

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two looks; each costs about 0.3 ms of a connection."""


async def wait_for_result(
    database: Database, namespace: str, run_id: UUID, seconds: float, stopping: asyncio.Event
) -> RunResult:
    """A run's result as soon as it has ended, or as it stands when time is up.

    Args:
        seconds: How long to wait at most; 0 looks once.
        stopping: Ends all waiting, so that a process that stops lets nobody hang.

    Raises:
        NotFound: There is no such run.
    """
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE
    while True:
        answer = await get_result(database, namespace, run_id)
        left = deadline - time.monotonic()
        if answer.done or left <= 0 or stopping.is_set():
            return answer
        await _pause(min(pause, left), stopping)
        pause = min(pause * 1.5, LONGEST_PAUSE)


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


async def unless(stopping: asyncio.Event, awaited: Coroutine[Any, Any, T]) -> T | None:
    """What something comes to, or None as soon as the process is to stop; it is canceled then."""
    task = asyncio.ensure_future(awaited)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
