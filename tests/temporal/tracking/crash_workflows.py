"""Workflows whose worker gets killed; files tell tests how far their activities are."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

SOON = timedelta(seconds=20)
LATER = timedelta(seconds=200)
"""A flush may take a quarter of what is left of a timeout."""
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=20), backoff_coefficient=1.0)


@activity.defn
async def hold_once(mark: str) -> str:
    """Waits for ever where the mark is not made yet, and makes it."""
    if not made(mark):
        return "second time"
    await asyncio.Event().wait()
    return "never"


@activity.defn
async def finish(mark: str) -> str:
    """Makes the mark and is done."""
    made(mark)
    return "finished"


def made(mark: str) -> bool:
    """Make a mark; whether it is new."""
    path = Path(mark)
    is_new = not path.exists()
    path.touch()
    return is_new


@workflow.defn
class Killed:
    """A step, remote or local, in the middle of which its worker dies; then another step."""

    @workflow.run
    async def run(self, mark: str, local: bool) -> list[str]:
        if local:
            held = await workflow.execute_local_activity(
                hold_once, mark, start_to_close_timeout=SOON, retry_policy=QUICKLY
            )
        else:
            held = await workflow.execute_activity(
                hold_once,
                mark,
                start_to_close_timeout=timedelta(seconds=2),
                retry_policy=QUICKLY,
            )
        after = await workflow.execute_activity(
            finish, f"{mark}-after", start_to_close_timeout=SOON
        )
        return [held, after]


@workflow.defn
class Interrupted:
    """A step that is done, but for its flush, when its worker is told to stop."""

    def __init__(self) -> None:
        self._mark = ""

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: bool(self._mark))
        first = await workflow.execute_activity(finish, self._mark, start_to_close_timeout=LATER)
        second = await workflow.execute_activity(finish, self._mark, start_to_close_timeout=LATER)
        return [first, second]

    @workflow.signal
    def go_on(self, mark: str) -> None:
        self._mark = mark


WORKFLOWS = [Killed, Interrupted]
ACTIVITIES = [hold_once, finish]
