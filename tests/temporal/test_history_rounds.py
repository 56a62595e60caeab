"""Which call of the run a marker belongs to, over every way in which an SDK may have made them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent

from tracker.temporal.history.rounds import LocalCall, Round, local_calls

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOON = timedelta(seconds=1)


@dataclass
class Call:
    """A local activity that still runs, as the SDK sees it."""

    ordinal: int
    seq: int
    rounds_left: int
    attempt: int = 1
    call_time: tuple[int, int] = (0, 0)


@dataclass
class Sdk:
    """Numbers calls and rounds from one counter, as the SDK does, and writes markers."""

    seq: int = 0
    calls: int = 0
    running: list[Call] = field(default_factory=list[Call])
    rounds: list[Round] = field(default_factory=list[Round])
    history: list[HistoryEvent] = field(default_factory=list[HistoryEvent])
    truth: dict[int, int] = field(default_factory=dict[int, int])

    def call_remote(self, own_id: str | None = None) -> None:
        self._count()
        attributes = ActivityTaskScheduledEventAttributes(activity_id=own_id or str(self.seq))
        self.history.append(
            HistoryEvent(
                event_id=self._next_event,
                event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
                activity_task_scheduled_event_attributes=attributes,
            )
        )

    def call_local(self, rounds: int) -> None:
        self._count()
        self.running.append(Call(self.calls, self.seq, rounds, call_time=(7, self.seq)))

    def end_round(self, which: int) -> None:
        if not self.running:
            return
        call = self.running[which % len(self.running)]
        call.rounds_left -= 1
        has_more = call.rounds_left > 0
        self._mark(call, SOON if has_more else None)
        if has_more:
            self.seq += 1
            call.seq = self.seq
            call.attempt += 1
        else:
            self.running.remove(call)

    def _count(self) -> None:
        self.seq += 1
        self.calls += 1

    @property
    def _next_event(self) -> int:
        return len(self.history) + 1

    def _mark(self, call: Call, backoff: timedelta | None) -> None:
        self.truth[self._next_event] = call.ordinal
        self.rounds.append(
            Round(
                event_id=self._next_event,
                task_id=self._next_event,
                recorded_at=NOON,
                name=None,
                seq=call.seq,
                attempt=call.attempt,
                activity_type="charge",
                call_time=call.call_time,
                backoff=backoff,
                completed_at=NOON,
                details={},
                failure=None,
                worker_identity=None,
            )
        )
        self.history.append(
            HistoryEvent(event_id=self._next_event, event_type=EventType.EVENT_TYPE_MARKER_RECORDED)
        )

    def told(self, *, run_is_closed: bool) -> dict[int, int]:
        """Ordinal by the event id of each marker."""
        calls: list[LocalCall] = local_calls(self.rounds, self.history, run_is_closed=run_is_closed)
        return {r.event_id: call.ordinal for call in calls for r in call.rounds}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("call_remote"), st.sampled_from([None, None, None, "mine"])),
        st.tuples(st.just("call_local"), st.integers(1, 3)),
        st.tuples(st.just("end_round"), st.integers(0, 9)),
        st.tuples(st.just("end_round"), st.integers(0, 9)),
    ),
    max_size=25,
)


@given(steps)
def test_what_is_told_of_an_open_run_is_right(program: list[tuple[str, Any]]) -> None:
    sdk = ran(program)
    told = sdk.told(run_is_closed=False)
    assert told.items() <= sdk.truth.items()


@given(steps)
def test_all_is_told_once_no_round_is_awaited(program: list[tuple[str, Any]]) -> None:
    sdk = ran(program)
    while any(call.attempt > 1 for call in sdk.running):
        sdk.end_round(next(i for i, call in enumerate(sdk.running) if call.attempt > 1))
    assert sdk.told(run_is_closed=False) == sdk.told(run_is_closed=True) == sdk.truth


def ran(program: list[tuple[str, Any]]) -> Sdk:
    sdk = Sdk()
    for step, value in program:
        getattr(sdk, step)(value)
    return sdk


def test_a_gap_below_a_call_is_taken_for_the_awaited_round_at_the_end() -> None:
    sdk = ran([("call_local", 2), ("end_round", 0), ("call_local", 1), ("end_round", 1)])
    assert sdk.told(run_is_closed=False) == {1: 1}
    assert sdk.told(run_is_closed=True) == {1: 1, 2: 2} == sdk.truth


@pytest.mark.parametrize("data", [None, [], {}, {"seq": 1}, {"seq": "x", "attempt": 1}])
def test_a_marker_that_the_sdk_did_not_write_is_passed_over(data: Any) -> None:
    event = HistoryEvent(event_id=5, event_type=EventType.EVENT_TYPE_MARKER_RECORDED)
    assert Round.read(data, event) is None
