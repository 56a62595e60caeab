"""Chains and children: own ids, inherited refs and metadata, links between the runs."""

from __future__ import annotations

import pytest

from tests.temporal.tracking.harness import Handle, RecordedRun, Tracked
from tests.temporal.tracking.ref_workflows import ACTIVITIES, WORKFLOWS
from tracker.temporal.refs import tracked_ref


@pytest.mark.parametrize("own_memo", [False, True])
async def test_continue_as_new(tracked: Tracked, own_memo: bool) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        with tracked_ref("order", "o-1", metadata={"dept": "x"}):
            handle = await tracked.start("Continuing", 2, own_memo, client=tracked.client())
        result = await handle.result()
    everything = {"dept": "x", "run2": True, "run1": True, "run0": True}
    assert result == {"metadata": everything, "mine": 1 if own_memo else None}

    runs = await tracked.runs()
    assert [run.status for run in runs] == ["continued_as_new", "continued_as_new", "completed"]
    assert [len(run.metadata) for run in runs] == [2, 3, 4]
    first, *rest = runs
    for before, run in zip(runs, rest, strict=False):
        assert run.continued_from_temporal_run_id == before.temporal_run_id
        assert run.first_temporal_run_id == first.temporal_run_id
        assert run.workflow_id == first.workflow_id == handle.id
        assert run.started_at > before.started_at
        assert before.finished_at is not None
    assert len({run.run_id for run in runs}) == 3
    for run in runs:
        assert (run.ref_type, run.ref_id) == ("order", "o-1")
        # The activity's worker knows the same ids.
        assert run.step("whoami").output == ["order/o-1", str(run.run_id)]
    [workflow] = await tracked.rows("v_workflows")
    assert (workflow["runs_count"], workflow["latest_status"]) == (3, "completed")
    corrected = await tracked.corrected(handle)
    assert corrected.continued_to_temporal_run_id == rest[0].temporal_run_id
    assert (corrected.status, corrected.output) == ("continued_as_new", None)
    assert corrected.metadata == {"dept": "x", "run2": True}


@pytest.mark.parametrize(
    ("fate", "result", "status", "error"),
    [
        ("ok", "ok", "completed", None),
        ("continue", "ok", "completed", None),
        ("fail", "ApplicationError", "failed", "Told"),
        ("wait", "CancelledError", "canceled", None),
        ("time out", "TimeoutError", "timed_out", "TimeoutError/START_TO_CLOSE"),
    ],
)
async def test_a_child(
    tracked: Tracked, fate: str, result: str, status: str, error: str | None
) -> None:
    handle = await family(tracked, fate, result)
    parent, child = await generations(tracked)
    for seen in (parent, await tracked.corrected(handle)):
        assert (seen.status, seen.output) == ("completed", result)
        step = seen.step("Child")
        assert (step.kind, step.type, step.attempts) == ("child_workflow", "Child", 0)
        assert (step.status, step.error_type) == (status, error)
        assert step.output == ("ok" if status == "completed" else None)
        assert step.input == [fate]
        assert step.detail == {
            "run_id": str(child.temporal_run_id),
            "workflow_id": f"{handle.id}/child",
        }
        assert seen.started_at <= step.started_at <= step.finished_at <= seen.finished_at
    assert child.parent_temporal_run_id == child.root_temporal_run_id == parent.temporal_run_id
    assert child.parent_workflow_id == handle.id
    assert child.run_id != parent.run_id
    for run in (parent, child):
        assert (run.ref_type, run.ref_id) == ("order", "o-1")
        assert run.metadata == {"dept": "x", "told": "by the parent"}


async def test_a_child_that_fails_to_start(tracked: Tracked) -> None:
    handle = await family(tracked, "clash", "WorkflowAlreadyStartedError")
    [run] = await tracked.runs()
    assert run.steps == [], "only history names a child that never began"
    step = (await tracked.corrected(handle)).step("Child")
    assert (step.status, step.error_type) == ("failed", "WorkflowAlreadyStartedError")
    assert step.detail == {"workflow_id": handle.id}


async def family(tracked: Tracked, fate: str, result: str) -> Handle:
    """A parent that ran to its end, its child likewise."""
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        with tracked_ref("order", "o-1", metadata={"dept": "x"}):
            handle = await tracked.start("Parent", fate, client=tracked.client())
        assert await handle.result() == result
    return handle


async def generations(tracked: Tracked) -> tuple[RecordedRun, RecordedRun]:
    """The parent and the first run of its child."""
    parent, child, *_ = await tracked.runs()
    return parent, child
