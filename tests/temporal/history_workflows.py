"""Workflows and activities whose histories hold every kind of event that the projection reads."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.workflow import ParentClosePolicy

SOON = timedelta(seconds=10)
LONG = timedelta(hours=1)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=10), backoff_coefficient=1.0)
ONCE = RetryPolicy(maximum_attempts=1)


class CardDeclined(Exception):
    """A plain exception, so that its class name is its type."""


@activity.defn
async def charge(amount: int, fail_before: int) -> dict[str, int]:
    """Fails until the given attempt."""
    attempt = activity.info().attempt
    if attempt < fail_before:
        raise CardDeclined(f"declined at attempt {attempt}")
    return {"charged": amount}


@activity.defn
async def refuse(reason: str) -> None:
    """Fails for good."""
    raise ApplicationError(reason, type="Refused", non_retryable=True)


@activity.defn
async def hang(heartbeats: bool = False) -> None:
    """Ends by a timeout or a cancellation only."""
    while True:
        await asyncio.sleep(0.02)
        if heartbeats:
            activity.heartbeat()


@activity.defn
async def nap(milliseconds: int) -> int:
    """Returns what it was given, after that time."""
    await asyncio.sleep(milliseconds / 1000)
    return milliseconds


@dataclass
class Timeouts:
    """Timeouts of one activity call, in seconds."""

    start_to_close: float | None = None
    schedule_to_close: float | None = None
    schedule_to_start: float | None = None
    heartbeat: float | None = None
    task_queue: str | None = None
    initial_interval: float = 0.01
    attempts: int = 0
    activity: str = "hang"
    args: list[Any] = field(default_factory=list[Any])


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


@workflow.defn
class ChargeWorkflow:
    """One activity with retries, then a second of the same kind."""

    @workflow.run
    async def run(self, fail_before: int, attempts: int) -> str:
        policy = RetryPolicy(
            initial_interval=timedelta(milliseconds=10),
            backoff_coefficient=1.0,
            maximum_attempts=attempts,
        )
        await workflow.execute_activity(
            charge, args=[5, fail_before], start_to_close_timeout=SOON, retry_policy=policy
        )
        await workflow.execute_activity(charge, args=[7, 1], start_to_close_timeout=SOON)
        return "paid"


@workflow.defn
class TimeoutWorkflow:
    """One activity that ends by a timeout; the run fails with it."""

    @workflow.run
    async def run(self, timeouts: Timeouts) -> None:
        await workflow.execute_activity(
            timeouts.activity,
            args=timeouts.args,
            task_queue=timeouts.task_queue,
            start_to_close_timeout=_seconds(timeouts.start_to_close),
            schedule_to_close_timeout=_seconds(timeouts.schedule_to_close),
            schedule_to_start_timeout=_seconds(timeouts.schedule_to_start),
            heartbeat_timeout=_seconds(timeouts.heartbeat),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=timeouts.initial_interval),
                backoff_coefficient=1.0,
                maximum_attempts=timeouts.attempts,
            ),
        )


@workflow.defn
class RefuseWorkflow:
    """Fails with an activity's non-retryable error, or with its own."""

    @workflow.run
    async def run(self, reason: str, own: bool) -> None:
        if own:
            raise ApplicationError(reason, type="OwnReason")
        await workflow.execute_activity(refuse, reason, start_to_close_timeout=SOON)


@workflow.defn
class WaitWorkflow:
    """Leaves an activity, a timer and a child open until it is canceled."""

    @workflow.run
    async def run(self) -> None:
        hanging = workflow.start_activity(
            hang,
            True,
            heartbeat_timeout=timedelta(seconds=1),
            start_to_close_timeout=SOON,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        timer = asyncio.create_task(workflow.sleep(3600, summary="long sleep"))
        child = await workflow.start_child_workflow(
            ReleasedWorkflow.run, parent_close_policy=ParentClosePolicy.TERMINATE
        )
        opened: list[asyncio.Task[Any]] = [hanging, timer, child]
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            for task in opened:
                task.cancel()
            await asyncio.gather(*opened, return_exceptions=True)
            raise


@workflow.defn
class ReleasedWorkflow:
    """Waits for a signal; takes updates; may end by any of its ways."""

    def __init__(self) -> None:
        self._released: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(
            lambda: "end" in self._released and workflow.all_handlers_finished()
        )
        return self._released

    @workflow.signal
    def release(self, word: str) -> None:
        self._released.append(word)

    @workflow.update
    async def rename(self, word: str) -> str:
        await workflow.sleep(0.01)
        if word == "fail":
            raise ApplicationError("no such name", type="NoSuchName")
        return word.upper()

    @rename.validator
    def check(self, word: str) -> None:
        if not word:
            raise ValueError("empty")


@workflow.defn
class ContinuedWorkflow:
    """Continues as new until the count is reached."""

    @workflow.run
    async def run(self, count: int) -> int:
        if count:
            workflow.continue_as_new(count - 1)
        return count


@workflow.defn
class RetriedWorkflow:
    """Fails in its first run; the retry policy of the start makes another run."""

    @workflow.run
    async def run(self) -> int:
        if workflow.info().attempt == 1:
            raise ApplicationError("first time", type="FirstTime")
        return workflow.info().attempt


@workflow.defn
class LocalWorkflow:
    """Local activities side by side with a remote one, one of them over the retry threshold."""

    @workflow.run
    async def run(self) -> list[str]:
        remote = workflow.start_activity(nap, 1, start_to_close_timeout=SOON)
        over = workflow.start_local_activity(
            charge,
            args=[1, 4],
            start_to_close_timeout=SOON,
            local_retry_threshold=timedelta(milliseconds=1),
            retry_policy=QUICKLY,
        )
        slow = workflow.start_local_activity(nap, 200, start_to_close_timeout=SOON)
        fast = workflow.start_local_activity(nap, 30, start_to_close_timeout=SOON)
        await asyncio.gather(remote, over, slow, fast)
        within = workflow.start_local_activity(
            charge, args=[2, 3], start_to_close_timeout=SOON, retry_policy=QUICKLY
        )
        custom = workflow.start_local_activity(
            nap, 1, activity_id="mine", summary="short nap", start_to_close_timeout=SOON
        )
        await asyncio.gather(within, custom)
        return await self._refused()

    async def _refused(self) -> list[str]:
        told: list[str] = []
        await workflow.sleep(0.01)
        timed_out = workflow.start_local_activity(
            nap, 60_000, start_to_close_timeout=timedelta(milliseconds=20), retry_policy=ONCE
        )
        failed = workflow.start_local_activity(refuse, "local", start_to_close_timeout=SOON)
        canceled = workflow.start_local_activity(nap, 60_000, start_to_close_timeout=SOON)
        await workflow.wait([timed_out, failed])
        canceled.cancel()
        for outcome in await asyncio.gather(timed_out, failed, canceled, return_exceptions=True):
            told.append(type(outcome).__name__)
        return told


@workflow.defn
class UnfinishedLocalsWorkflow:
    """Of four local activities the first never ends and the third waits for its next round."""

    @workflow.run
    async def run(self) -> None:
        workflow.start_local_activity(nap, 60_000, start_to_close_timeout=LONG)
        await workflow.execute_local_activity(nap, 1, start_to_close_timeout=SOON)
        workflow.start_local_activity(
            charge,
            args=[1, 99],
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(initial_interval=LONG),
            local_retry_threshold=timedelta(milliseconds=1),
        )
        await workflow.sleep(0.01)
        await workflow.execute_local_activity(nap, 2, start_to_close_timeout=SOON)
        await workflow.sleep(3600)


@workflow.defn
class ParentWorkflow:
    """Starts a child of each fate and tells what it saw."""

    @workflow.run
    async def run(self, prefix: str) -> list[str]:
        told: list[str] = []
        for fate in ("complete", "fail", "time out", "wait"):
            try:
                await workflow.execute_child_workflow(
                    FateWorkflow.run,
                    fate,
                    id=f"{prefix}-{fate}",
                    run_timeout=timedelta(milliseconds=100) if fate == "time out" else None,
                )
                told.append("completed")
            except Exception as error:
                told.append(type(error.__cause__ or error).__name__)
        canceled = await workflow.start_child_workflow(FateWorkflow.run, "wait")
        canceled.cancel()
        await asyncio.gather(canceled, return_exceptions=True)
        try:
            await workflow.start_child_workflow(
                FateWorkflow.run, "fail", id=workflow.info().workflow_id
            )
        except Exception as error:
            told.append(type(error).__name__)
        return told


@workflow.defn
class FateWorkflow:
    """Ends as it is told."""

    @workflow.run
    async def run(self, fate: str) -> str:
        if fate == "fail":
            raise ApplicationError("as told", type="Told")
        if fate != "complete":
            await workflow.wait_condition(lambda: False)
        return fate


@workflow.defn
class TimerWorkflow:
    """One timer that fires and one that is canceled."""

    @workflow.run
    async def run(self) -> None:
        canceled = asyncio.create_task(workflow.sleep(3600))
        await workflow.sleep(0.02, summary="short sleep")
        canceled.cancel()
        await asyncio.gather(canceled, return_exceptions=True)


@workflow.defn
class MemoWorkflow:
    """Changes the memo as `tracker.workflow` does."""

    @workflow.run
    async def run(self, memos: list[dict[str, Any]]) -> None:
        for memo in memos:
            workflow.upsert_memo({"flowtrail": memo})
            await workflow.sleep(0.01)


@workflow.defn
class TaskFailureWorkflow:
    """Its first workflow task fails; a signal lets the next one pass."""

    failed = False

    @workflow.run
    async def run(self) -> str:
        if not TaskFailureWorkflow.failed:
            TaskFailureWorkflow.failed = True
            raise CardDeclined("a bug in the code")
        return "mended"


ACTIVITIES = [charge, refuse, hang, nap]
WORKFLOWS = [
    ChargeWorkflow,
    ContinuedWorkflow,
    FateWorkflow,
    LocalWorkflow,
    MemoWorkflow,
    ParentWorkflow,
    RefuseWorkflow,
    ReleasedWorkflow,
    RetriedWorkflow,
    TaskFailureWorkflow,
    TimeoutWorkflow,
    TimerWorkflow,
    UnfinishedLocalsWorkflow,
    WaitWorkflow,
]
