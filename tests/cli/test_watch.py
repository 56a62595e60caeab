"""What `flowtrail runs watch` shows of the events of a watch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from tests.factories import NOON, ARun
from tracker.cli.run_watch import RunView, has_ended, print_lines
from tracker.core.status import ChangeKind, StepKind, StepStatus
from tracker.models.feed import Change, ChangedRun, Snapshot
from tracker.models.wire import ErrorInfo, RunRead, StepState


def run_as(status: str, **given: Any) -> dict[str, Any]:
    run = ARun().identity
    return {
        "run_id": run.id,
        "namespace": "default",
        "engine": "temporal",
        "workflow_type": "OrderFulfilment",
        "workflow_id": "w",
        "ref_type": "order",
        "ref_id": "o-1",
        "status": status,
        "ordered_at": NOON,
        "started_at": NOON,
        **given,
    }


def step_as(status: StepStatus, **given: Any) -> StepState:
    return StepState(
        step_id=ARun().identity.id, kind=StepKind.ACTIVITY, name="charge", status=status, **given
    )


def change(run: dict[str, Any] | None = None, step: StepState | None = None) -> Change:
    kind, told = (ChangeKind.RUN, ChangedRun(**run)) if run else (ChangeKind.STEP, None)
    status = str(step.status if step else told and told.status)
    return Change(seq=1, at=NOON, kind=kind, status=status, run=told, step=step)


def test_a_table_of_the_steps() -> None:
    view = RunView()
    view.take(Snapshot(seq=0, runs=[RunRead(**run_as("running"))], steps=[]))
    error = ErrorInfo(type="CardDeclined", message="no \x1b[31mfunds")
    view.take(change(step=step_as(StepStatus.SCHEDULED, attempts_count=2, error=error)))
    console = Console(width=160)
    with console.capture() as shown:
        console.print(view.table())
    text = shown.get()
    assert "OrderFulfilment  order/o-1  running" in text
    assert "charge" in text
    assert "scheduled" in text
    assert "\x1b[31m" not in text


def test_a_table_that_does_not_fit_shows_the_newest_steps() -> None:
    view = RunView()
    view.take(Snapshot(seq=0, runs=[RunRead(**run_as("running"))], steps=[]))
    for minute in range(9):
        began = NOON + timedelta(minutes=minute)
        error = ErrorInfo(type="Long", message="no " * 50)
        step = step_as(StepStatus.STARTED, scheduled_at=began, error=error).model_copy(
            update={"name": f"step-{minute}"}
        )
        view.take(change(step=step))
    console = Console(width=80)
    with console.capture() as shown:
        console.print(view.table(3))
    text = shown.get()
    assert len(text.splitlines()) == 3 + 3
    assert "… 6 earlier steps" in text
    assert [n for n in range(9) if f"step-{n}" in text] == [6, 7, 8]


def test_lines_end_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_as("completed", finished_at=NOON + timedelta(seconds=9), from_history=True)
    events = [
        Snapshot(seq=0, runs=[RunRead(**run_as("running"))]),
        change(step=step_as(StepStatus.COMPLETED, attempts_count=2)),
        change(run=ended),
        change(run=run_as("running")),
    ]
    assert [has_ended(told) for told in events] == [False, False, True, False]
    print_lines(events, one=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("activity charge  completed  attempt 2")
    assert lines[2].endswith("completed  confirmed by history")
