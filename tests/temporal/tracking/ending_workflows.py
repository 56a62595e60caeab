"""Workflows and activities of the tests about timeouts, cancellation and the other ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.workflow import ActivityCancellationType

SOON = timedelta(seconds=10)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=20), backoff_coefficient=1.0)


class Gates:
    """What activities of this process wait for, opened by tests."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()

    @activity.defn
    async def wait_at_gate(self, first_only: bool = False) -> int:
        """Ends when the gate is opened, without a heartbeat; later attempts pass if asked to."""
        attempt = activity.info().attempt
        if first_only and attempt > 1:
            return attempt
        self.entered.set()
        await self.opened.wait()
        return attempt


@activity.defn
async def hang() -> None:
    """Heartbeats until it is told to stop."""
    while True:
        activity.heartbeat("alive")
        await asyncio.sleep(0.02)


@activity.defn
async def clean_up(what: str) -> str:
    """Undoes something."""
    return f"{what} undone"


@workflow.defn
class TimingOut:
    """Waits at a gate under one of the timeouts."""

    @workflow.run
    async def run(self, kind: str, attempts: int, where: str = "wait_at_gate") -> int | None:
        limits = {kind: timedelta(milliseconds=300)}
        return await workflow.execute_activity(
            where,
            args=[attempts > 1] if where == "wait_at_gate" else [],
            start_to_close_timeout=limits.get("start_to_close"),
            schedule_to_close_timeout=limits.get("schedule_to_close", SOON),
            heartbeat_timeout=limits.get("heartbeat"),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=20), maximum_attempts=attempts
            ),
        )


@workflow.defn
class Hanging:
    """Waits for an activity that ends by cancellation only, and cleans up."""

    @workflow.run
    async def run(self, how: str) -> str:
        handle = workflow.start_activity(
            hang,
            start_to_close_timeout=SOON,
            heartbeat_timeout=timedelta(seconds=5),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            retry_policy=QUICKLY,
        )
        if how == "cancel activity":
            await workflow.sleep(0.05)
            handle.cancel()
        try:
            await handle
        except (asyncio.CancelledError, Exception):
            if how == "clean up":
                await asyncio.shield(
                    workflow.execute_activity(clean_up, "order", start_to_close_timeout=SOON)
                )
                raise
            if how == "swallow":
                return await workflow.execute_activity(
                    clean_up, "cancel", start_to_close_timeout=SOON
                )
            if how == "cancel activity":
                return "went on"
            raise
        return "unreachable"


@workflow.defn
class Retried:
    """Fails in its first runs; the policy of the start makes another one."""

    @workflow.run
    async def run(self, fail_before: int) -> int:
        attempt = workflow.info().attempt
        if attempt < fail_before:
            raise ApplicationError(f"run {attempt} failed", type="NotYet")
        return attempt


@workflow.defn
class Buggy:
    """Raises once what is no workflow failure; not for the sandbox, which has a class per run."""

    mended = False

    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity(clean_up, "first", start_to_close_timeout=SOON)
        if not Buggy.mended:
            Buggy.mended = True
            raise ValueError("a bug")
        await workflow.execute_activity_method(
            Gates.wait_at_gate, False, start_to_close_timeout=SOON
        )
        return "mended"


@workflow.defn
class Quick:
    """Returns what it was given."""

    @workflow.run
    async def run(self, word: str) -> str:
        return word


@workflow.defn
class Racing:
    """Ends in a task during which a signal arrives; then the server wants another task."""

    def __init__(self) -> None:
        self._signals = 0

    @workflow.run
    async def run(self) -> int:
        await workflow.execute_local_activity(
            "hold_task", args=[self._signals], start_to_close_timeout=SOON
        )
        return self._signals

    @workflow.signal
    def nudge(self) -> None:
        self._signals += 1


@workflow.defn
class Swallowing:
    """Is told to cancel and completes all the same."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            return "not me"
        except CancelledError:
            return "nor me"
        return "unreachable"


@workflow.defn
class EndedByHandler:
    """Ends by what a signal's or an update's handler raises, or by a result that is none; the bugs
    are there once, for a worker without a sandbox."""

    bugs = 0

    def __init__(self) -> None:
        self._how = ""

    @workflow.run
    async def run(self, how: str = "") -> Any:
        await workflow.wait_condition(lambda: bool(how or self._how))
        if self._how == "unserialisable" and self._has_bug():
            return object()
        return "mended"

    @workflow.signal
    def end(self, how: str) -> None:
        if how == "continue":
            workflow.continue_as_new("at once")
        if how == "fail":
            raise ApplicationError("by a signal", type="Signaled")
        if how == "bug" and self._has_bug():
            raise ValueError("a bug in a handler")
        self._how = how

    @workflow.update
    async def update(self) -> str:
        if self._has_bug():
            raise ValueError("a bug in a handler")
        self._how = "updated"
        return self._how

    def _has_bug(self) -> bool:
        EndedByHandler.bugs += 1
        return EndedByHandler.bugs == 1


WORKFLOWS = [TimingOut, Hanging, Retried, Buggy, Quick, Racing, Swallowing, EndedByHandler]
