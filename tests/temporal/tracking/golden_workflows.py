"""The workflow of the golden histories: a bit of everything that the plugin stands around.

Its histories are committed; a change here must keep them replayable.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from tracker.workflow import Retry, set_metadata, set_ref, step

SOON = timedelta(seconds=10)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=10), backoff_coefficient=1.0)


@activity.defn
async def golden_work(word: str, fail_before: int = 0) -> str:
    """Fails before the given attempt."""
    if activity.info().attempt < fail_before:
        raise ValueError(word)
    return word.upper()


@workflow.defn
class GoldenChild:
    """Returns what it was told."""

    @workflow.run
    async def run(self, word: str) -> str:
        return word


@workflow.defn
class Golden:
    """Activities, local ones beyond their threshold, metadata, links, a child, a signal, a timer;
    then all of it again as a new run."""

    def __init__(self) -> None:
        self._goes_on = False

    @workflow.run
    async def run(self, more: int) -> list[str]:
        set_metadata(more=more)
        retry = Retry(max_attempts=5, initial=0.01, backoff="linear", jitter=0.5)
        first = await step(
            golden_work, args=["a", 3], name="named", retry=retry, start_to_close_timeout=SOON
        )
        set_ref("invoice", "i-1")
        second = await workflow.execute_local_activity(
            golden_work,
            args=["b", 3],
            start_to_close_timeout=SOON,
            retry_policy=QUICKLY,
            local_retry_threshold=timedelta(milliseconds=1),
        )
        child = await workflow.execute_child_workflow(GoldenChild.run, "c")
        await workflow.wait_condition(lambda: self._goes_on or not more)
        await workflow.sleep(0.01)
        if more:
            workflow.continue_as_new(more - 1)
        return [first, second, child]

    @workflow.signal
    def go_on(self) -> None:
        self._goes_on = True


WORKFLOWS = [Golden, GoldenChild]
ACTIVITIES = [golden_work]
