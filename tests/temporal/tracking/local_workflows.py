"""Workflows with local activities."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from tracker.activity import annotate
from tracker.workflow import step

SOON = timedelta(seconds=10)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=250), backoff_coefficient=1.0)


class TooEarly(Exception):
    """A plain exception."""


@activity.defn
async def persist(word: str, fail_before: int = 0) -> str:
    """Fails before the given attempt."""
    attempt = activity.info().attempt
    annotate(attempt=attempt)
    if attempt < fail_before:
        raise TooEarly(f"attempt {attempt}")
    return f"{word}!"


@activity.defn
async def refuse(word: str) -> None:
    """Fails for good."""
    raise ApplicationError(word, type="Refused", non_retryable=True)


@workflow.defn
class Local:
    """Local activities, one after another, with a remote one before."""

    @workflow.run
    async def run(self, fail_before: int, threshold_ms: int) -> list[str]:
        first = await step(persist, args=["remote"], name="remote", start_to_close_timeout=SOON)
        named = await near("named")
        retried = await workflow.execute_local_activity(
            persist,
            args=["retried", fail_before],
            start_to_close_timeout=SOON,
            retry_policy=QUICKLY,
            local_retry_threshold=timedelta(milliseconds=threshold_ms),
        )
        return [first, named, retried, await near("last")]


async def near(word: str) -> str:
    """A local step of that name."""
    return await step(persist, args=[word], name=word, local=True, start_to_close_timeout=SOON)


@workflow.defn
class LocalSideBySide:
    """Local activities that end in another order than they begin, and one that fails."""

    @workflow.run
    async def run(self) -> list[str]:
        slow = workflow.start_local_activity(
            persist, args=["slow", 3], start_to_close_timeout=SOON, retry_policy=QUICKLY
        )
        fast = workflow.start_local_activity(persist, args=["fast"], start_to_close_timeout=SOON)
        refused = workflow.start_local_activity(refuse, "no", start_to_close_timeout=SOON)
        told = await asyncio.gather(slow, fast, refused, return_exceptions=True)
        return [str(one) for one in told]


@workflow.defn
class LocalGate:
    """A local activity that a test can hold, between two others."""

    @workflow.run
    async def run(self) -> list[str]:
        before = await workflow.execute_local_activity(
            persist, args=["before"], start_to_close_timeout=SOON
        )
        await workflow.sleep(0.01)
        held = await workflow.execute_local_activity(
            "hold", start_to_close_timeout=SOON, result_type=str, retry_policy=QUICKLY
        )
        after = await workflow.execute_local_activity(
            persist, args=["after"], start_to_close_timeout=SOON
        )
        return [before, held, after]


WORKFLOWS = [Local, LocalSideBySide, LocalGate]
ACTIVITIES = [persist, refuse]
