"""Replay: of histories old and new, tracked or not, with the plugin and without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from tests.temporal.tracking.golden_workflows import ACTIVITIES, WORKFLOWS
from tests.temporal.tracking.harness import Handle, Tracked
from tests.waiting import eventually
from tracker.recorder.recorder import Recorder
from tracker.temporal.refs import tracked_ref

HISTORIES = Path(__file__).with_name("histories")
RUNNERS = [SandboxedWorkflowRunner(), UnsandboxedWorkflowRunner()]


@pytest.mark.parametrize("on", [True, False], ids=["plugin", "plain"])
@pytest.mark.parametrize("name", ["tracked", "untracked"])
@pytest.mark.parametrize("runner", RUNNERS, ids=["sandboxed", "unsandboxed"])
async def test_golden_histories(
    tracked: Tracked, on: bool, name: str, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "start", None)  # A replayer has no business with a database.
    history = (HISTORIES / f"{name}.json").read_text(encoding="utf-8")
    plugins = [tracked.plugin()] if on else []
    # Without the plugin nothing passes the library through the sandbox: a copy per run.
    replayer = Replayer(workflows=WORKFLOWS, plugins=plugins, workflow_runner=runner)
    result = await replayer.replay_workflow(WorkflowHistory.from_json("golden", history))
    assert result.replay_failure is None
    assert tracked.heard == []


async def test_what_just_ran(tracked: Tracked) -> None:
    """Same events tracked and untracked; each history replays with the plugin and without."""
    histories: list[WorkflowHistory] = []
    for client in (tracked.client(), tracked.connection):
        async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
            with tracked_ref("order", "o-1"):
                handle = await tracked.start("Golden", 0, client=client)
            assert await handle.result() == ["A", "B", "c"]
        histories.append(await handle.fetch_history())
    assert kinds(histories[0]) == kinds(histories[1])
    heard = len(tracked.heard)
    for plugins in ([tracked.plugin()], []):
        replayer = Replayer(workflows=WORKFLOWS, plugins=plugins)
        for history in histories:
            result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
            assert result.replay_failure is None
    assert len(tracked.heard) == heard


@pytest.mark.parametrize("on_first", [True, False])
async def test_the_plugin_comes_or_goes_in_the_middle(tracked: Tracked, on_first: bool) -> None:
    """A run begun by a worker without the plugin goes on at one with it, and the other way round;
    what happened before the change is for history to tell."""
    clients = [tracked.client(), tracked.connection]
    first, second = clients if on_first else clients[::-1]
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=first):
        handle = await tracked.start("Golden", 1, client=first)
        await eventually(lambda: has_child(tracked, handle))
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=second):
        await handle.signal("go_on")
        assert await handle.result() == ["A", "B", "c"]
    run = await tracked.after_history(handle)
    # The step's name travels in a header, which only the plugin writes.
    name = "named" if on_first else "golden_work"
    names = {(step.kind, step.name, step.status) for step in run.steps}
    assert names == {
        ("activity", name, "completed"),
        ("local_activity", "golden_work", "completed"),
        ("child_workflow", "GoldenChild", "completed"),
        ("signal", "go_on", "completed"),
        ("timer", "timer", "completed"),
    }
    assert (run.status, run.ref_type, run.ref_id) == ("continued_as_new", "invoice", "i-1")
    remote, local = [step for step in run.steps if step.name in (name, "golden_work")]
    assert remote.attempts == local.attempts == 3
    assert len(remote.tries) == (3 if on_first else 1)


async def has_child(tracked: Tracked, handle: Handle) -> bool:
    """Whether the run's child has ended, after which it waits for the signal."""
    kinds_so_far = [event.event_type for event in await tracked.events(handle)]
    return 32 in kinds_so_far and kinds_so_far[-1] == 7


def kinds(history: WorkflowHistory) -> Sequence[int]:
    """Types of a history's events, in order."""
    return [event.event_type for event in history.events]
