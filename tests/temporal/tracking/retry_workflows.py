"""Workflows and activities of the tests about attempts, apart: a sandbox loads them per run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from tracker.activity import NonRetryable, RetryAfter, annotate, current_step, progress
from tracker.workflow import Retry, step

SOON = timedelta(seconds=10)


class CardDeclined(Exception):
    """A plain exception, so that its class name is its type."""


@activity.defn
async def charge(amount: int, fail_before: int) -> dict[str, int]:
    """Fails before the given attempt."""
    attempt = activity.info().attempt
    annotate(amount=amount, attempt=attempt)
    if attempt < fail_before:
        raise CardDeclined(f"declined at attempt {attempt}")
    return {"charged": amount}


@activity.defn
async def refuse(how: str) -> None:
    """Fails in a way after which no try follows, or after which one does later."""
    if how == "flag":
        raise ApplicationError("no such card", type="NoSuchCard", non_retryable=True)
    if how == "own":
        raise NonRetryable("never", {"card": 1})
    if how == "later" and activity.info().attempt == 1:
        raise RetryAfter("busy", 0.15)
    if how == "cause":
        try:
            raise CardDeclined("by the bank")
        except CardDeclined as error:
            raise ApplicationError("not paid", type="NotPaid") from error
    if how == "context":
        try:
            raise CardDeclined("by the bank")
        except CardDeclined:
            raise ApplicationError("not paid", type="NotPaid")  # noqa: B904 - the point of it
    if how != "later":
        raise CardDeclined(how)


@activity.defn
async def break_off(how: str) -> Any:
    """Ends the first time in a way that Temporal takes for a failure, though nothing was raised
    that looks like one."""
    if activity.info().attempt > 1:
        return "second time"
    if how == "cancels itself":
        raise asyncio.CancelledError
    if how == "heartbeat":
        activity.heartbeat(object())
        await asyncio.Event().wait()
    return object()


@activity.defn
async def count(total: int) -> list[Any]:
    """Heartbeats, then fails once, and goes on from where it stood."""
    done = (current_step().heartbeat_details or [0])[0]
    for number in range(done + 1, total + 1):
        progress(number, done=number, total=total)
        if number == 2 and activity.info().attempt == 1:
            raise CardDeclined("in the middle")
    return [done, total]


class Slow:
    """An activity that is silent after two heartbeats, until it is told to end."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    @activity.defn
    async def fall_silent(self) -> None:
        """Heartbeats twice at once."""
        progress(done=1)
        progress(done=2)
        await self.opened.wait()


@workflow.defn
class Silent:
    """One activity that falls silent."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity_method(Slow.fall_silent, start_to_close_timeout=SOON)


@workflow.defn
class Charging:
    """One activity under a retry policy."""

    @workflow.run
    async def run(self, fail_before: int, attempts: int) -> dict[str, int]:
        return await workflow.execute_activity(
            charge,
            args=[5, fail_before],
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=20),
                backoff_coefficient=2.0,
                maximum_attempts=attempts,
            ),
        )


@workflow.defn
class Refusing:
    """One activity that fails in the given way."""

    @workflow.run
    async def run(self, how: str, attempts: int = 0) -> None:
        await workflow.execute_activity(
            refuse,
            how,
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=20),
                maximum_attempts=attempts,
                non_retryable_error_types=["CardDeclined"] if how == "by type" else None,
            ),
        )


@workflow.defn
class Stepping:
    """Named steps with delays of their own, and one with progress."""

    @workflow.run
    async def run(self, how: str) -> None:
        if how == "progress":
            await step(
                count, 3, name="count", retry=Retry(initial=0.02), start_to_close_timeout=SOON
            )
            return
        retry = Retry(max_attempts=3, initial=0.02, backoff="linear")
        await step(refuse, how, name="ask nicely", retry=retry, start_to_close_timeout=SOON)


@workflow.defn
class BreakingOff:
    """One activity that breaks off."""

    @workflow.run
    async def run(self, how: str) -> Any:
        retry = Retry(max_attempts=2, initial=0.02)
        return await step(break_off, how, retry=retry, start_to_close_timeout=SOON)


WORKFLOWS = [Charging, Refusing, Stepping, BreakingOff, Silent]
ACTIVITIES = [charge, refuse, break_off, count]
