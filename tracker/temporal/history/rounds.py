"""Which markers of local activities belong to one call, and which call of the run that was.

Temporal writes one marker per *round* of a local activity. A round that ends in a backoff beyond
the local retry threshold is followed by another one, with a new sequence number and activity id.

A call's ordinal is its number among all `start_activity` and `start_local_activity` calls of the
run, from 1. The SDK draws its sequence numbers from the same counter, which further rounds advance
as well; so ordinal = sequence number - further rounds begun before the call. That holds whatever
order the markers came in, and although calls without a marker (still running) leave gaps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.api.history.v1 import HistoryEvent

from tracker.temporal.history.reading import EPOCH, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One marker.

    Attributes:
        name: Of the step, where the command has a summary; markers carry no header.
        seq: The SDK's sequence number of the command.
        attempt: Number of the round's last attempt.
        call_time: When the call was made, by its worker's clock, in seconds and nanoseconds; the
            same in all its rounds.
        backoff: Set if another round follows after it.
        completed_at: Workflow time at the end of the round's last attempt, not counting earlier
            attempts of the same round.
    """

    event_id: int
    task_id: int
    recorded_at: datetime
    name: str | None
    seq: int
    attempt: int
    activity_type: str
    call_time: tuple[int, int] | None
    backoff: timedelta | None
    completed_at: datetime | None
    details: Mapping[str, Payloads]
    failure: FailureProto | None
    worker_identity: str | None

    @property
    def abandoned(self) -> bool:
        """Whether it was canceled without waiting for its end: which attempt was under way is then
        unknown."""
        return self.failure is not None and self.completed_at is None

    @classmethod
    def read(
        cls,
        data: Any,
        event: HistoryEvent,
        name: str | None = None,
        worker_identity: str | None = None,
    ) -> Round | None:
        """A marker by its parsed `data`; None if it is not what the SDK writes."""
        attributes = event.marker_recorded_event_attributes
        try:
            return cls(
                event_id=event.event_id,
                task_id=attributes.workflow_task_completed_event_id,
                recorded_at=moment(event.event_time),
                name=name,
                seq=int(data["seq"]),
                attempt=int(data["attempt"]),
                activity_type=str(data["activity_type"]),
                call_time=_pair(data.get("original_schedule_time")),
                backoff=_duration(data.get("backoff")),
                completed_at=_moment(data.get("complete_time")),
                details=attributes.details,
                failure=attributes.failure if attributes.HasField("failure") else None,
                worker_identity=worker_identity,
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class LocalCall:
    """All rounds, so far, of one call of a local activity."""

    ordinal: int
    rounds: Sequence[Round]


def local_calls(
    rounds: Iterable[Round], history: Sequence[HistoryEvent], *, run_is_closed: bool
) -> list[LocalCall]:
    """The calls to which the rounds belong.

    A further round whose marker is not there yet has an unknown sequence number. In an open run,
    calls whose ordinal it might change are left out: the next marker tells. In a closed run a gap
    below them is taken for it.
    """
    found = chains(rounds)
    further = sorted(round_.seq for chain in found for round_ in chain[1:])
    taken = sorted(round_.seq for chain in found for round_ in chain)
    calls: list[LocalCall] = []
    for chain in found:
        first = chain[0]
        pending = sum(1 for other in found if _begins_round_before(other, chain))
        gaps = _gaps_below(first, taken, history) if pending else 0
        if gaps and not run_is_closed:
            continue
        begun = bisect_left(further, first.seq) + min(pending, gaps)
        calls.append(LocalCall(first.seq - begun, chain))
    return calls


def chains(rounds: Iterable[Round]) -> list[list[Round]]:
    """Rounds of one call each, in order."""
    found: list[list[Round]] = []
    unfinished: dict[tuple[str, tuple[int, int] | None], list[Round]] = {}
    for round_ in sorted(rounds, key=lambda r: r.seq):
        key = (round_.activity_type, round_.call_time)
        chain = unfinished.get(key)
        if chain is not None and round_.attempt > chain[-1].attempt:
            chain.append(round_)
        else:
            chain = [round_]
            found.append(chain)
        if round_.backoff is None:
            unfinished.pop(key, None)
        else:
            unfinished[key] = chain
    return found


def _begins_round_before(other: list[Round], chain: list[Round]) -> bool:
    """Whether `other` awaits a further round whose sequence number may lie below the first one of
    `chain`: not if the call was made before, which a marker recorded before proves."""
    last = other[-1]
    return other is not chain and last.backoff is not None and last.event_id < chain[0].event_id


def _gaps_below(first: Round, taken: list[int], history: Sequence[HistoryEvent]) -> int:
    """Sequence numbers below a call's that neither markers nor scheduled activities explain. An
    activity with an id of its own does not show its number, so it explains none."""
    gaps = first.seq - 1 - bisect_left(taken, first.seq)
    for event in history:
        if event.event_id > first.event_id or not gaps:
            break
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            own_id = event.activity_task_scheduled_event_attributes.activity_id
            gaps -= own_id.isdecimal() and int(own_id) < first.seq
    return gaps


def _pair(value: Any) -> tuple[int, int] | None:
    return None if value is None else (int(value["seconds"]), int(value["nanos"]))


def _duration(value: Any) -> timedelta | None:
    if value is None:
        return None
    return timedelta(seconds=int(value["seconds"]), microseconds=int(value["nanos"]) // 1000)


def _moment(value: Any) -> datetime | None:
    duration = _duration(value)
    return None if duration is None else EPOCH + duration
