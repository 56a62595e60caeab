"""Local activities: named by their number in the run, timed by the server's clock."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from tests.temporal.tracking.harness import RecordedRun, Tracked
from tests.temporal.tracking.local_workflows import ACTIVITIES, WORKFLOWS

TOLERANCE = timedelta(milliseconds=200)
"""Between the clocks of server and worker on a busy machine; less than the shortest retry."""

INTERVAL = timedelta(milliseconds=250)


async def test_retries_within_the_threshold(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("Local", 3, 10_000)
        assert await handle.result() == ["remote!", "named!", "retried!", "last!"]
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        check(seen, [(1, "failed"), (2, "failed"), (3, "completed")])
        assert seen.step("persist").max_attempts in (None, 0)
        for one in seen.step("persist").tries[:2]:
            assert one.next_retry_at - one.finished_at == INTERVAL


async def test_retries_beyond_the_threshold(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("Local", 4, 1)
        assert await handle.result() == ["remote!", "named!", "retried!", "last!"]
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        check(seen, [(1, "failed"), (2, "failed"), (3, "failed"), (4, "completed")])


async def test_side_by_side(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("LocalSideBySide")
        assert await handle.result() == ["slow!", "fast!", "Refused: no"]
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        told = {step.name + str(step.input): step for step in seen.steps}
        slow, fast = told["persist['slow', 3]"], told["persist['fast']"]
        assert slow.outcomes == [(1, "failed"), (2, "failed"), (3, "completed")]
        assert (fast.outcomes, fast.output) == ([(1, "completed")], "fast!")
        refused = seen.step("refuse")
        assert (refused.status, refused.error_type) == ("failed", "Refused")
        assert refused.tries[0].error_message == "no"
        assert len(seen.steps) == 3


def check(run: RecordedRun, outcomes: list[tuple[int, str]]) -> None:
    """What every run of `Local` must have on record."""
    assert run.status == "completed"
    assert [(s.kind, s.name, s.status) for s in run.steps if s.kind != "timer"] == [
        ("activity", "remote", "completed"),
        ("local_activity", "named", "completed"),
        ("local_activity", "persist", "completed"),
        ("local_activity", "last", "completed"),
    ]
    retried = run.step("persist")
    assert (retried.input, retried.output) == (["retried", len(outcomes)], "retried!")
    assert (retried.outcomes, retried.attempts) == (outcomes, len(outcomes))
    for one, after in pairwise(retried.tries):
        assert one.error_type == "TooEarly"
        assert one.error_message == f"attempt {one.number}"
        assert one.annotations == {"attempt": one.number}
        assert one.started_at <= one.finished_at < after.started_at
        assert one.finished_at <= one.next_retry_at <= after.started_at + INTERVAL / 5
    steps = [step for step in run.steps if step.kind != "timer"]
    for step, after in pairwise(steps):
        assert step.scheduled_at <= step.started_at <= step.finished_at
        # Workflow time does not tell: of the retries before, it counts the last one alone.
        assert step.finished_at - TOLERANCE <= after.scheduled_at <= after.started_at
    assert steps[-1].finished_at - TOLERANCE <= run.finished_at
