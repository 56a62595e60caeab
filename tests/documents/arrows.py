"""Which status can follow which: found by making every kind of statement that there is about a run
or a step, and asking the versions which of two would win."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from itertools import product

from tests.factories import ARun
from tracker.core.events import (
    AttemptEnded,
    RunProgressed,
    StepClosed,
    StepProgressed,
    StepScheduled,
    StepStarted,
    TrackerEvent,
)
from tracker.core.fold import fold
from tracker.core.status import (
    HISTORY_AUTHORITY,
    AttemptOutcome,
    RunRank,
    RunStatus,
    StepStatus,
    run_version,
)

LIVE_RUN_CLOSES = (
    RunStatus.COMPLETED,
    RunStatus.FAILED,
    RunStatus.CANCELED,
    RunStatus.CONTINUED_AS_NEW,
)
LIVE_STEP_CLOSES = (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.CANCELED)
ATTEMPT_CLOSES = (*LIVE_STEP_CLOSES, StepStatus.TIMED_OUT)
"""A worker that is late knows by the clock which timeout has ended its attempt."""


@dataclass(frozen=True)
class Statement:
    """What somebody says about one run or step.

    Attributes:
        who: `API`, `worker`, `history` or `reconciler`.
    """

    status: str
    version: int
    who: str

    def may_follow(self, other: Statement) -> bool:
        """Whether it replaces an earlier one: greater version, and both can be made of one run."""
        if self.status == other.status or self.version <= other.version:
            return False
        if self.version >= HISTORY_AUTHORITY and other.version >= HISTORY_AUTHORITY:
            return False  # A run has one history, and that one end.
        if self.who == "reconciler":
            return other.status == "running"  # `mark_lost` asks for that.
        # The outbox entry goes with the first outcome; only "it runs after all" may come later.
        both_by_api = self.who == other.who == "API"
        return not both_by_api or other.status == "accepted" or self.status == "running"


def arrows(statements: list[Statement]) -> dict[tuple[str, str], set[str]]:
    """(from, to) → who can cause it."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for before, after in product(statements, repeat=2):
        if after.may_follow(before):
            found[before.status, after.status].add(after.who)
    return dict(found)


def statements_about_a_run() -> list[Statement]:
    """By API and relay (`tracker.store.accept`, `outbox`), workers, history, the reconciler."""
    by_api = [
        (RunStatus.ACCEPTED, RunRank.ACCEPTED, 0),
        (RunStatus.REJECTED, RunRank.REFUSED, 0),
        (RunStatus.CANCELED, RunRank.CLOSED, 0),
        (RunStatus.RUNNING, RunRank.RUNNING, 1),
    ]
    found = [Statement(status, run_version(rank, n), "API") for status, rank, n in by_api]
    run = ARun()
    for length in (3, 7):
        seen = RunProgressed(run=run.identity, history_length=length)
        found += [_of_run(seen, "worker"), _of_run(seen, "history")]
        found += [_of_run(run.closed(s, history_length=length), "worker") for s in LIVE_RUN_CLOSES]
        found.append(Statement(RunStatus.LOST, run_version(RunRank.CLOSED, length), "reconciler"))
    for status in (*LIVE_RUN_CLOSES, RunStatus.TERMINATED, RunStatus.TIMED_OUT):
        closed = run.closed(status, history_length=9, from_history=True)
        found.append(_of_run(closed, "history"))
    return found


def statements_about_a_step() -> list[Statement]:
    """By workers and by history, about steps with attempts and without."""
    step, at = ARun().step(), ARun().started_at
    scheduled = StepScheduled(step=step, type="charge", scheduled_at=at, from_history=True)
    began = StepStarted(step=step, type="charge", started_at=at)
    found = [
        _of_step(scheduled, "history"),
        _of_step(StepProgressed(step=step, at=at, progress=1), "worker"),
        *(_of_step(began, who) for who in ("worker", "history")),
        *(_of_step(StepClosed(step=step, status=s, finished_at=at), "worker")
          for s in LIVE_STEP_CLOSES),
        *(_of_step(StepClosed(step=step, status=s, finished_at=at, from_history=True), "history")
          for s in (*LIVE_STEP_CLOSES, StepStatus.TIMED_OUT)),
    ]  # fmt: skip
    for number in (1, 2):
        found += _of_attempt(number)
    return found


def _of_attempt(number: int) -> list[Statement]:
    run = ARun()
    attempt = run.attempt(number)

    def ended(closes: StepStatus | None, *, from_history: bool = False) -> AttemptEnded:
        return AttemptEnded(
            attempt=attempt,
            outcome=AttemptOutcome.FAILED,
            finished_at=attempt.started_at + timedelta(seconds=1),
            closes_step=closes,
            from_history=from_history,
        )

    return [
        *(_of_step(run.attempt_started(number), who) for who in ("worker", "history")),
        *(_of_step(ended(None), who) for who in ("worker", "history")),
        *(_of_step(ended(status), "worker") for status in ATTEMPT_CLOSES),
        *(_of_step(ended(status, from_history=True), "history") for status in ATTEMPT_CLOSES),
    ]


def _of_run(event: TrackerEvent, who: str) -> Statement:
    (row,) = fold([event]).runs.values()
    return Statement(row["status"], row["status_version"], who)


def _of_step(event: TrackerEvent, who: str) -> Statement:
    (row,) = fold([event]).steps.values()
    return Statement(row["status"], row["status_version"], who)
