"""What owners report of runs that they drive: whatever they say, in whatever order, the rows stay
such as the tables accept, and saying it again changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.batch import Batch
from tracker.core.events import ExternalRun, Failure
from tracker.core.external import (
    KnownExternalRun,
    KnownExternalStep,
    RunReport,
    StepReport,
    reopens,
    run_event,
    step_events,
)
from tracker.core.fold import fold
from tracker.core.ids import Ref, external_run_id
from tracker.core.merge import RUN, STEP, merge_into
from tracker.core.status import (
    CLOSED_RUN_STATUSES,
    CLOSED_STEP_STATUSES,
    HISTORY_AUTHORITY,
    RunStatus,
    StepStatus,
)
from tracker.errors import Conflict, InvalidRequest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN_ID = UUID("01935f00-0000-7000-8000-000000000001")
IDENTITY = ExternalRun(
    id=RUN_ID, namespace="ns", workflow_type="nightly", own_id="job-1", ref=Ref("job", "1")
)
STATUSES = [
    RunStatus.ACCEPTED,
    RunStatus.RUNNING,
    RunStatus.COMPLETED,
    RunStatus.FAILED,
    RunStatus.CANCELED,
]


class Rows:
    """One run and its steps, as the tables would have them."""

    def __init__(self) -> None:
        self.run: dict[str, Any] | None = None
        self.steps: dict[UUID, dict[str, Any]] = {}
        self.attempts: dict[UUID, dict[str, Any]] = {}

    def take(self, batch: Batch) -> None:
        for row in batch.runs.values():
            if self.run is None:
                self.run = dict(row)
            else:
                merge_into(RUN, self.run, row)
        for key, row in batch.steps.items():
            if key in self.steps:
                merge_into(STEP, self.steps[key], row)
            else:
                self.steps[key] = dict(row)
        self.attempts |= batch.attempts

    def known(self) -> KnownExternalRun | None:
        if self.run is None:
            return None
        return KnownExternalRun(
            status=RunStatus(self.run["status"]), status_version=self.run["status_version"]
        )

    def report(self, status: RunStatus | None, at: datetime, **said: Any) -> None:
        told = RunReport(run=IDENTITY, status=status, **said)
        self.take(fold([run_event(self.known(), told, at)]))

    def step(self, status: StepStatus, at: datetime, **said: Any) -> dict[str, Any]:
        told = StepReport(
            run_key=RUN_ID, namespace="ns", index=1, name="send", status=status, **said
        )
        row = self.steps.get(told.identity.id)
        known = None
        if row is not None:
            known = KnownExternalStep(
                status=StepStatus(row["status"]),
                attempts=row.get("attempts") or 0,
                last_started_at=row.get("last_started_at"),
            )
        self.take(fold(step_events(known, told, at)))
        return self.steps[told.identity.id]


MOMENTS = st.integers(0, 50).map(lambda seconds: NOON + timedelta(seconds=seconds))
RUN_REPORTS = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from(STATUSES)), MOMENTS), max_size=12
)


@given(RUN_REPORTS)
def test_a_run_always_has_a_row_that_the_tables_accept(
    reports: list[tuple[RunStatus | None, datetime]],
) -> None:
    rows = Rows()
    for status, at in reports:
        before = rows.known()
        try:
            rows.report(status, at)
        except Conflict:
            assert before is not None
            assert rows.known() == before
            continue
        row = rows.run
        assert row is not None
        expected = status or (RunStatus.ACCEPTED if before is None else before.status)
        assert row["status"] == expected
        assert (row["finished_at"] is not None) == (expected in CLOSED_RUN_STATUSES)
        assert row["status"] == RunStatus.ACCEPTED or row["started_at"] is not None
        assert row["status_version"] >= HISTORY_AUTHORITY
        again = dict(row)
        rows.report(status, at)
        assert rows.run == again


def test_only_running_reopens() -> None:
    rows = Rows()
    rows.report(RunStatus.FAILED, NOON, error=Failure(type="Error", message="no"))
    for status in (RunStatus.ACCEPTED, RunStatus.COMPLETED, RunStatus.CANCELED):
        with pytest.raises(Conflict, match="reopened by status running"):
            rows.report(status, NOON)
    again = RunReport(run=IDENTITY, status=RunStatus.RUNNING)
    assert reopens(rows.known(), again)
    assert not reopens(None, again)
    rows.report(RunStatus.RUNNING, NOON)
    assert rows.run is not None
    assert (rows.run["finished_at"], rows.run["error_type"]) == (None, None)


def test_a_result_goes_with_its_end() -> None:
    rows = Rows()
    with pytest.raises(InvalidRequest, match="an error goes with status failed"):
        rows.report(RunStatus.RUNNING, NOON, error=Failure(type="Error"))
    assert rows.run is None


STEP_REPORTS = st.lists(
    st.tuples(st.sampled_from(list(StepStatus)), MOMENTS, st.booleans(), st.booleans()),
    max_size=12,
)


@given(STEP_REPORTS)
def test_a_step_always_has_a_row_that_the_tables_accept(
    reports: list[tuple[StepStatus, datetime, bool, bool]],
) -> None:
    rows = Rows()
    for status, at, retried, dated in reports:
        said: dict[str, Any] = {"started_at": at} if dated else {}
        if status is StepStatus.SCHEDULED and retried:
            said["next_retry_at"] = at + timedelta(seconds=5)
        row = rows.step(status, at, **said)
        closed = row["status"] in CLOSED_STEP_STATUSES
        assert closed == (row.get("finished_at") is not None)
        assert row.get("next_retry_at") is None or row["status"] == StepStatus.SCHEDULED
        again, tries = dict(row), len(rows.attempts)
        assert rows.step(status, at, **said) == again
        assert len(rows.attempts) == tries
    assert all(attempt["number"] >= 1 for attempt in rows.attempts.values())


def test_tries_are_counted() -> None:
    rows = Rows()
    for seconds in (0, 10):
        at = NOON + timedelta(seconds=seconds)
        rows.step(StepStatus.STARTED, at)
        retry_at = at + timedelta(seconds=5)
        rows.step(StepStatus.SCHEDULED, at, next_retry_at=retry_at, error=Failure(type="Error"))
    rows.step(StepStatus.STARTED, NOON + timedelta(seconds=20))
    row = rows.step(StepStatus.COMPLETED, NOON + timedelta(seconds=21))
    numbers = sorted(attempt["number"] for attempt in rows.attempts.values())
    assert (numbers, row["attempts"], row["status"]) == ([1, 2, 3], 3, StepStatus.COMPLETED)


def test_ids() -> None:
    assert external_run_id("ns", str(RUN_ID)) == RUN_ID
    assert external_run_id("ns", "job-1") == external_run_id("ns", "job-1")
    others = {external_run_id("ns", "job-2"), external_run_id("other", "job-1")}
    others.add(external_run_id("ns", str(RUN_ID).upper()))
    assert len(others | {external_run_id("ns", "job-1")}) == 4
