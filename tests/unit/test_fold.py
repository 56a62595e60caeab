"""From events to rows: the order of arrival is nobody's promise, history's word is the last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import BASE, in_any_order, tracker_events
from tracker.core.batch import Batch
from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    Failure,
    RunClosed,
    RunIdentity,
    RunMetadataSet,
    RunProgressed,
    RunRefAdded,
    RunStarted,
    RunTaskFailed,
    StepClosed,
    StepIdentity,
    StepProgressed,
    StepScheduled,
    TrackerEvent,
    WorkflowTypeSeen,
)
from tracker.core.fold import fold
from tracker.core.ids import Ref, activity_key
from tracker.core.merge import ATTEMPT, RUN, STEP
from tracker.core.payloads import Handling, StoredPayload, Treatment, store_json
from tracker.core.status import AttemptOutcome, RunStatus, StepKind, StepStatus

RUN_KEY = UUID("01935f00-0000-7000-8000-000000000001")
IDENTITY = RunIdentity(
    id=UUID("01935f00-0000-7000-8000-00000000000a"),
    namespace="default",
    run_key=RUN_KEY,
    workflow_type="OrderFulfilment",
    workflow_id="order-1",
    task_queue="orders",
    first_run_key=RUN_KEY,
    started_at=BASE,
)
CHARGE = StepIdentity(
    namespace="default",
    run_key=RUN_KEY,
    kind=StepKind.ACTIVITY,
    step_key=activity_key("1", BASE),
    name="charge",
)


def attempt(number: int) -> AttemptIdentity:
    return AttemptIdentity(step=CHARGE, number=number, started_at=BASE + timedelta(seconds=number))


def started(number: int) -> AttemptStarted:
    return AttemptStarted(attempt=attempt(number), type="charge_card", scheduled_at=BASE)


def ended(
    number: int,
    outcome: AttemptOutcome,
    closes: StepStatus | None,
    *,
    from_history: bool = False,
    **more: Any,
) -> AttemptEnded:
    return AttemptEnded(
        attempt=attempt(number),
        outcome=outcome,
        finished_at=BASE + timedelta(seconds=number, milliseconds=5),
        closes_step=closes,
        from_history=from_history,
        **more,
    )


def closed(status: RunStatus, length: int, *, from_history: bool = False) -> RunClosed:
    return RunClosed(
        run=IDENTITY,
        history_length=length,
        status=status,
        finished_at=BASE + timedelta(minutes=1),
        from_history=from_history,
    )


def value(json_text: bytes) -> StoredPayload | None:
    return store_json(json_text, Handling(Treatment.FULL), "input")


def joined(batches: Iterable[Batch]) -> Batch:
    """What the tables hold after these batches."""
    whole = Batch()
    for batch in batches:
        for table, rows in ((RUN, batch.runs), (STEP, batch.steps), (ATTEMPT, batch.attempts)):
            for row in rows.values():
                whole.add(table, dict(row))
        whole.payloads |= batch.payloads
        whole.refs |= batch.refs
        for key, seen in batch.workflow_types.items():
            if key not in whole.workflow_types or seen.registered:
                whole.workflow_types[key] = seen
    return whole


def comparable(batch: Batch) -> dict[str, Any]:
    """The batch where absent and None are the same."""
    plain = {
        name: {key: _said(row) for key, row in rows.items()}
        for name, rows in (("runs", batch.runs), ("steps", batch.steps), ("tries", batch.attempts))
    }
    return plain | {
        "payloads": batch.payloads,
        "refs": batch.refs,
        "workflow_types": batch.workflow_types,
    }


def _said(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_order_any_repetition_and_any_split_give_the_same_rows(data: st.DataObject) -> None:
    events = data.draw(tracker_events())
    batches = data.draw(in_any_order(events))
    assert comparable(joined(map(fold, batches))) == comparable(fold(events))


@settings(max_examples=150, deadline=None)
@given(events=tracker_events())
def test_rows_obey_the_rules_that_the_tables_check(events: list[TrackerEvent]) -> None:
    batch = fold(events)
    for run in batch.runs.values():
        assert (run["status"] == "running") == (run.get("finished_at") is None)
        assert run.get("output_id") is None or run["status"] == "completed"
    for step in batch.steps.values():
        is_open = step["status"] in ("scheduled", "started")
        assert is_open == (step.get("finished_at") is None)
        assert step.get("next_retry_at") is None or step["status"] == "scheduled"
        assert step.get("output_id") is None or step["status"] == "completed"
    for one in batch.attempts.values():
        assert (one["outcome"] == "running") == (one.get("finished_at") is None)


@settings(max_examples=150, deadline=None)
@given(events=tracker_events())
def test_a_close_in_history_is_the_verdict(events: list[TrackerEvent]) -> None:
    batch = fold(events)
    for event in events:
        match event:
            case RunClosed(from_history=True):
                assert batch.runs[event.run.id]["status"] == event.status
            case StepClosed(from_history=True):
                assert batch.steps[event.step.id]["status"] == event.status
            case AttemptEnded(from_history=True):
                step_id, attempt_id = event.attempt.step.id, event.attempt.id
                assert batch.steps[step_id]["status"] == event.closes_step
                assert batch.attempts[attempt_id]["outcome"] == event.outcome
            case _:
                pass


@settings(max_examples=100, deadline=None)
@given(events=tracker_events())
def test_every_payload_that_a_row_points_to_is_in_the_batch(events: list[TrackerEvent]) -> None:
    batch = fold(events)
    for row in (*batch.runs.values(), *batch.steps.values()):
        for pointer in ("input_id", "output_id"):
            assert row.get(pointer) is None or row[pointer] in batch.payloads


def test_a_longer_history_reopens_a_run_whose_close_was_only_claimed() -> None:
    claim, onward = closed(RunStatus.COMPLETED, 9), RunProgressed(run=IDENTITY, history_length=12)
    for events in ([claim, onward], [onward, claim]):
        run = fold(events).runs[IDENTITY.id]
        assert (run["status"], run.get("finished_at")) == ("running", None)


def test_of_two_claimed_closes_the_one_with_the_longer_history_stands() -> None:
    claims = [closed(RunStatus.COMPLETED, 9), closed(RunStatus.FAILED, 12)]
    assert fold(claims).runs[IDENTITY.id]["status"] == "failed"
    assert fold(claims[::-1]).runs[IDENTITY.id]["status"] == "failed"


def test_nothing_live_reopens_or_changes_a_run_that_history_closed() -> None:
    verdict = closed(RunStatus.TERMINATED, 12, from_history=True)
    late = [closed(RunStatus.COMPLETED, 40), RunProgressed(run=IDENTITY, history_length=50)]
    assert fold([verdict, *late]).runs[IDENTITY.id]["status"] == "terminated"
    assert fold([*late, verdict]).runs[IDENTITY.id]["status"] == "terminated"


@pytest.mark.parametrize(
    "zombie",
    [
        started(3),
        ended(2, AttemptOutcome.COMPLETED, StepStatus.COMPLETED, output=value(b"1")),
        ended(1, AttemptOutcome.FAILED, None, error=Failure(type="E"), next_retry_at=BASE),
        StepProgressed(step=CHARGE, at=BASE + timedelta(hours=1), progress=99),
    ],
    ids=["a later start", "its own success", "an earlier failure", "a heartbeat"],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_zombie_never_reopens_a_step_that_history_closed(
    zombie: TrackerEvent, first: bool
) -> None:
    verdict = StepClosed(
        step=CHARGE,
        status=StepStatus.TIMED_OUT,
        finished_at=BASE + timedelta(minutes=5),
        position=attempt(2).position,
        from_history=True,
    )
    row = fold([zombie, verdict] if first else [verdict, zombie]).steps[CHARGE.id]
    assert row["status"] == "timed_out"
    assert row["finished_at"] == verdict.finished_at
    assert row.get("output_id") is None


def test_a_late_report_of_an_earlier_attempt_does_not_reopen_a_live_success() -> None:
    success = ended(2, AttemptOutcome.COMPLETED, StepStatus.COMPLETED)
    zombie = ended(1, AttemptOutcome.FAILED, None, next_retry_at=BASE + timedelta(seconds=30))
    row = fold([success, zombie]).steps[CHARGE.id]
    assert (row["status"], row.get("next_retry_at")) == ("completed", None)


def test_an_attempt_that_fails_leaves_the_step_backing_off_until_the_next_starts() -> None:
    due = BASE + timedelta(seconds=2)
    failure = Failure(type="ValueError", message="no")
    failed = ended(1, AttemptOutcome.FAILED, None, next_retry_at=due, error=failure)
    row = fold([started(1), failed]).steps[CHARGE.id]
    assert (row["status"], row["next_retry_at"]) == ("scheduled", due)
    assert (row["error_type"], row["error_message"]) == ("ValueError", "no")

    row = fold([started(1), failed, started(2)]).steps[CHARGE.id]
    assert (row["status"], row.get("next_retry_at"), row["attempts"]) == ("started", None, 2)
    assert row["started_at"] == attempt(1).started_at
    assert row["last_started_at"] == attempt(2).started_at


def test_an_attempt_inferred_lost_yields_to_its_own_late_report() -> None:
    lost = ended(1, AttemptOutcome.LOST, None)
    report = ended(1, AttemptOutcome.FAILED, None, error=Failure(type="E"))
    for events in ([lost, report], [report, lost]):
        assert fold(events).attempts[attempt(1).id]["outcome"] == "failed"


def test_history_does_not_erase_what_only_the_worker_saw_of_an_attempt() -> None:
    failure = Failure(type="ValueError", message="no", stack="line 1\nline 2")
    live = ended(
        1, AttemptOutcome.FAILED, StepStatus.FAILED, error=failure, annotations={"shard": 3}
    )
    verdict = ended(
        1,
        AttemptOutcome.FAILED,
        StepStatus.FAILED,
        error=Failure(type="ValueError", message="no"),
        from_history=True,
    )
    row = fold([verdict, live]).attempts[attempt(1).id]
    assert (row["error_stack"], row["annotations"]) == ("line 1\nline 2", {"shard": 3})


def test_the_memo_outranks_a_rule_and_a_rule_outranks_the_workflow() -> None:
    by_workflow = RunRefAdded(run=IDENTITY, history_length=5, ref=Ref("cart", "c-1"), primary=True)
    assert _primary([by_workflow]) == ("cart", "c-1")

    ruled = replace(IDENTITY, rule_ref=Ref("order", "o-1"))
    by_rule = RunProgressed(run=ruled, history_length=3)
    assert _primary([by_workflow, by_rule]) == _primary([by_rule, by_workflow]) == ("order", "o-1")

    carried = replace(ruled, ref=Ref("order", "memo"))
    by_memo = RunProgressed(run=carried, history_length=3)
    assert _primary([by_memo, by_workflow]) == ("order", "memo")
    assert fold([by_workflow]).refs == {(IDENTITY.id, Ref("cart", "c-1"))}


def test_metadata_follows_the_longest_history_and_then_its_verdict() -> None:
    first = RunStarted(run=IDENTITY, history_length=3, metadata={"n": 0})
    live = RunMetadataSet(run=IDENTITY, history_length=9, metadata={"n": 2})
    early = RunMetadataSet(run=IDENTITY, history_length=5, metadata={"n": 1})
    verdict = RunMetadataSet(run=IDENTITY, history_length=4, metadata={"n": 3}, from_history=True)
    assert fold([live, early, first]).runs[IDENTITY.id]["metadata"] == {"n": 2}
    assert fold([verdict, live, early, first]).runs[IDENTITY.id]["metadata"] == {"n": 3}


def test_a_failed_workflow_task_leaves_the_run_open() -> None:
    failed = RunTaskFailed(
        run=IDENTITY, history_length=7, failed_at=BASE, error=Failure(type="E", message="m")
    )
    row = fold([closed(RunStatus.COMPLETED, 6), failed]).runs[IDENTITY.id]
    assert (row["status"], row["task_failure_type"]) == ("running", "E")


def test_a_step_that_was_only_heard_of_by_a_heartbeat_is_a_row() -> None:
    heard = StepProgressed(step=CHARGE, at=BASE, progress={"done": 1})
    row = fold([heard]).steps[CHARGE.id]
    assert (row["status"], row["progress"], row["type"]) == ("scheduled", {"done": 1}, None)


def test_no_limit_of_attempts_is_null_not_zero() -> None:
    scheduled = StepScheduled(step=CHARGE, type="t", scheduled_at=BASE, max_attempts=0)
    assert fold([scheduled]).steps[CHARGE.id]["max_attempts"] is None


def test_a_registered_workflow_type_outranks_one_that_was_only_seen() -> None:
    run = RunStarted(run=IDENTITY, history_length=3)
    registered = WorkflowTypeSeen(
        namespace="default", name="OrderFulfilment", task_queue="orders", aliases=("order",)
    )
    for events in ([run, registered], [registered, run]):
        assert list(fold(events).workflow_types.values()) == [registered]


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(TypeError, match="not a tracker event"):
        fold([object()])  # pyright: ignore[reportArgumentType]


def _primary(events: list[TrackerEvent]) -> tuple[str, str]:
    row = fold(events).runs[IDENTITY.id]
    return row["ref_type"], row["ref_id"]
