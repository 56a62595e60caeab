"""Hypothesis strategies for tracker events: what workers and history could tell of a few runs.

`tracker_events` keeps the promises on which the merge rules stand: what never changes is told the
same by every source that knows it, and statements of one version say one thing. It breaks no
CHECK of the schema. Everything else may happen: facts are missing, workers claim closes that the
server refused, history says otherwise, zombies report, activities are reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    Failure,
    RunClosed,
    RunEvent,
    RunIdentity,
    RunMetadataSet,
    RunProgressed,
    RunProjected,
    RunRefAdded,
    RunStarted,
    RunTaskFailed,
    StepClosed,
    StepIdentity,
    StepProgressed,
    StepScheduled,
    StepStarted,
    TrackerEvent,
    WorkflowTypeSeen,
)
from tracker.core.ids import Ref, activity_key, derived_run_id, event_key, local_activity_key
from tracker.core.payloads import Handling, Treatment, store_bytes, store_json
from tracker.core.status import (
    CLOSED_RUN_STATUSES,
    CLOSED_STEP_STATUSES,
    AttemptOutcome,
    RunStatus,
    StepKind,
    StepStatus,
)

BASE = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""When the first run of every example starts."""

WORKFLOW_TYPES = ("EmailCampaign", "OrderFulfilment")

RUN_VERDICTS = sorted(CLOSED_RUN_STATUSES - {RunStatus.REJECTED})
STEP_VERDICTS = sorted(CLOSED_STEP_STATUSES)
ENDINGS = {
    AttemptOutcome.COMPLETED: StepStatus.COMPLETED,
    AttemptOutcome.FAILED: StepStatus.FAILED,
    AttemptOutcome.CANCELED: StepStatus.CANCELED,
    AttemptOutcome.TIMED_OUT: StepStatus.TIMED_OUT,
}
"""Outcome of a last attempt → what it makes of its step."""

ATTEMPTED = (StepKind.ACTIVITY, StepKind.LOCAL_ACTIVITY)
FROM_HISTORY_ONLY = (StepKind.TIMER, StepKind.SIGNAL, StepKind.NEXUS_OPERATION)

_full, _digest = Handling(Treatment.FULL), Handling(Treatment.DIGEST)

texts = st.sampled_from(["", "plain", "naïve ☕ 🚀", 'it\'s 100% \\ "quoted"', "two\nlines"])
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
json_objects = st.dictionaries(st.sampled_from(["team", "n", "flag", "more"]), json_values)
refs = st.builds(Ref, st.sampled_from(["order", "campaign"]), st.sampled_from(["1", "a/b", "ü"]))
failures = st.builds(
    Failure,
    type=st.sampled_from(["ValueError", "TimeoutError/START_TO_CLOSE"]),
    message=st.none() | texts,
    stack=st.none() | texts,
)
payloads = st.sampled_from(
    [
        store_json(b'{"recipients":["a@example.com"],"n":1.5}', _full, "input"),
        store_json(b"null", _full, "input"),
        store_json(b'"\\u0000"', _full, "input"),
        store_json(b'"' + b"x" * 1000 + b'"', Handling(Treatment.FULL, limit=100), "input"),
        store_json(b"[1,2]", _digest, "input"),
        store_bytes(b"\x00\xff", "binary/encrypted", Handling(Treatment.ENCODED), "input"),
        None,
    ]
)


@st.composite
def tracker_events(
    draw: st.DrawFn, *, namespace: str | None = None, max_runs: int = 3
) -> list[TrackerEvent]:
    """Some of the facts about one to `max_runs` runs, at least one, in the order in which they
    came to be.

    Args:
        namespace: Of all runs; drawn if None. No two namespaces share an id.
        max_runs: At most so many.
    """
    runs: list[RunIdentity] = []
    space = draw(st.sampled_from(["default", "team-a"])) if namespace is None else namespace
    for _ in range(draw(st.integers(1, max_runs))):
        runs.append(draw(_identities(space, runs)))
    facts = [fact for run in runs for fact in _facts(draw, run)]
    kept = draw(st.lists(st.booleans(), min_size=len(facts), max_size=len(facts)).filter(any))
    return [fact for fact, is_kept in zip(facts, kept, strict=True) if is_kept]


def in_any_order(
    events: Sequence[TrackerEvent],
) -> st.SearchStrategy[list[list[TrackerEvent]]]:
    """The events shuffled, some of them twice, in one to four batches; none is missing."""
    again = st.lists(st.sampled_from(events), max_size=len(events))
    shuffled = again.flatmap(lambda twice: st.permutations([*events, *twice]))
    cuts = st.lists(st.integers(0, 2 * len(events)), max_size=3).map(sorted)
    return st.builds(_split, shuffled, cuts)


def _split(events: list[TrackerEvent], cuts: list[int]) -> list[list[TrackerEvent]]:
    edges = [0, *cuts, len(events)]
    return [events[low:high] for low, high in pairwise(edges)]


@st.composite
def _identities(draw: st.DrawFn, namespace: str, earlier: list[RunIdentity]) -> RunIdentity:
    number = len(earlier)
    key = _uuid(f"run/{number}", version=draw(st.sampled_from([4, 7])))
    before = draw(st.sampled_from([None, *earlier]))
    role = None if before is None else draw(st.sampled_from(["child", "continuation"]))
    child_of = before if role == "child" else None
    continues = before if role == "continuation" else None
    first = key if continues is None else continues.first_run_key
    bound = draw(st.booleans()) and continues is None
    workflow_type = draw(st.sampled_from(WORKFLOW_TYPES))
    return RunIdentity(
        # A bound id comes from a memo; any will do that no other namespace has.
        id=derived_run_id(f"{namespace}/bound" if bound else namespace, key, first),
        namespace=namespace,
        run_key=key,
        workflow_type=workflow_type,
        workflow_id=f"{workflow_type}/{number}",
        task_queue=f"queue of {workflow_type}",
        first_run_key=first,
        started_at=BASE + timedelta(minutes=number, microseconds=draw(st.integers(0, 999_999))),
        ref=draw(st.none() | refs),
        rule_ref=draw(st.none() | refs),
        parent_run_key=None if child_of is None else child_of.run_key,
        parent_workflow_id=None if child_of is None else child_of.workflow_id,
        root_run_key=None if child_of is None else child_of.root_run_key or child_of.run_key,
        continued_from=None if continues is None else continues.run_key,
        attempt=draw(st.integers(1, 3)),
        cron_schedule=draw(st.none() | st.just("0 8 * * *")),
    )


def _facts(draw: st.DrawFn, run: RunIdentity) -> list[TrackerEvent]:
    facts: list[TrackerEvent] = [
        WorkflowTypeSeen(
            namespace=run.namespace,
            name=run.workflow_type,
            task_queue=run.task_queue,
            aliases=("alias",),
            input_schema={"type": "object"},
        )
    ]
    facts += _starts(draw, run)
    for number in range(draw(st.integers(0, 3))):
        facts += _step_facts(draw, run, number)
    lengths = draw(st.lists(st.integers(4, 40), max_size=5, unique=True).map(sorted))
    for length in lengths:
        facts += _course(draw, run, length)
    return facts + _ends(draw, run, length=41)


def _starts(draw: st.DrawFn, run: RunIdentity) -> list[RunEvent]:
    """Told at the first task, told again by another worker after a failed one, and by history."""
    told = RunStarted(
        run=run,
        history_length=3,
        metadata=draw(st.none() | json_objects),
        input=draw(payloads),
        worker_identity="worker-1",
        build_id=draw(st.none() | st.just("build-1")),
    )
    return [
        told,
        replace(told, history_length=5, worker_identity="worker-2"),
        replace(told, history_length=1, worker_identity=None, build_id=None, from_history=True),
    ]


def _course(draw: st.DrawFn, run: RunIdentity, length: int) -> list[RunEvent]:
    """What happens at one length of a run's history while it is open."""
    base: dict[str, Any] = {"run": run, "history_length": length}
    moment = run.started_at + timedelta(seconds=length)
    kind = draw(st.sampled_from(["progress", "failure", "metadata", "link", "claim"]))
    if kind == "failure":
        return [RunTaskFailed(**base, failed_at=moment, error=draw(failures))]
    if kind == "metadata":
        live = RunMetadataSet(**base, metadata=draw(json_objects))
        return [live, replace(live, metadata=draw(json_objects), from_history=True)]
    if kind == "link":
        # The one primary ref that workflow code of this run ever sets, and further links.
        primary = draw(st.booleans())
        ref = Ref("set", f"{run.workflow_id}") if primary else draw(refs)
        return [RunRefAdded(**base, ref=ref, primary=primary)]
    if kind == "claim":
        return [_close(draw, run, length, from_history=False)]
    return [RunProgressed(**base)]


def _ends(draw: st.DrawFn, run: RunIdentity, length: int) -> list[RunEvent]:
    if draw(st.booleans()):
        return []
    return [
        _close(draw, run, length, from_history=False),
        _close(draw, run, length + draw(st.integers(0, 2)), from_history=True),
        RunProjected(
            run=run,
            history_length=length + 2,
            from_history=True,
            projected_at=run.started_at + timedelta(hours=1),
        ),
    ]


def _close(draw: st.DrawFn, run: RunIdentity, length: int, *, from_history: bool) -> RunClosed:
    status = draw(st.sampled_from(RUN_VERDICTS))
    continued = status is RunStatus.CONTINUED_AS_NEW
    return RunClosed(
        run=run,
        history_length=length,
        from_history=from_history,
        status=status,
        finished_at=run.started_at + timedelta(seconds=length, microseconds=from_history),
        output=draw(payloads) if status is RunStatus.COMPLETED else None,
        error=draw(failures) if status in (RunStatus.FAILED, RunStatus.TIMED_OUT) else None,
        continued_to=_uuid(f"after/{run.run_key}", version=4) if continued else None,
    )


def _step_facts(draw: st.DrawFn, run: RunIdentity, number: int) -> list[TrackerEvent]:
    kind = draw(st.sampled_from(list(StepKind)))
    scheduled_at = run.started_at + timedelta(seconds=number, microseconds=number)
    keys = {
        StepKind.ACTIVITY: activity_key(str(number), scheduled_at),
        StepKind.LOCAL_ACTIVITY: local_activity_key(number),
        StepKind.UPDATE: f"update-{number}",
        StepKind.CHILD_WORKFLOW: str(_uuid(f"child/{number}", version=7)),
    }
    step = StepIdentity(
        namespace=run.namespace,
        run_key=run.run_key,
        kind=kind,
        step_key=keys.get(kind, event_key(number)),
        name=draw(st.sampled_from(["charge", "send-emails"])),
    )
    if kind in ATTEMPTED:
        return _attempted(draw, step, scheduled_at)
    return _unattempted(draw, step, scheduled_at)


def _unattempted(draw: st.DrawFn, step: StepIdentity, at: datetime) -> list[TrackerEvent]:
    """A child, update, timer, signal or Nexus operation."""
    only_history = step.kind in FROM_HISTORY_ONLY
    detail = draw(st.none() | json_objects)
    scheduled = StepScheduled(
        step=step,
        type="SomeType",
        scheduled_at=at,
        input=draw(payloads),
        detail=detail,
        event_id=7,
        from_history=only_history,
    )
    started = StepStarted(
        step=step, type="SomeType", started_at=at + timedelta(seconds=1), detail=detail
    )
    closes = [_step_close(draw, step, at, detail, from_history=True)]
    if not only_history:
        closes.append(_step_close(draw, step, at, detail, from_history=False))
    return [scheduled, replace(started, from_history=only_history), *closes]


def _step_close(
    draw: st.DrawFn, step: StepIdentity, at: datetime, detail: Any, *, from_history: bool
) -> StepClosed:
    status = draw(st.sampled_from(STEP_VERDICTS))
    return StepClosed(
        step=step,
        from_history=from_history,
        status=status,
        finished_at=at + timedelta(seconds=2, microseconds=from_history),
        output=draw(payloads) if status is StepStatus.COMPLETED else None,
        error=draw(failures) if status is StepStatus.FAILED else None,
        attempts=draw(st.none() | st.integers(1, 5)),
        detail=detail,
    )


def _attempted(draw: st.DrawFn, step: StepIdentity, at: datetime) -> list[TrackerEvent]:
    """An activity, remote or local: tries that failed, and one that may have ended it."""
    told: dict[str, Any] = {"type": "some_activity", "scheduled_at": at, "task_queue": "activities"}
    limit, given = draw(st.sampled_from([None, 0, 3])), draw(payloads)
    facts: list[TrackerEvent] = [
        StepScheduled(
            step=step, **told, max_attempts=limit, input=given, event_id=5, from_history=True
        )
    ]
    attempts = _tries(draw, step, at)
    for attempt in attempts:
        live = AttemptStarted(
            attempt=attempt,
            **told,
            attempt_scheduled_at=at
            if attempt.number == 1
            else attempt.started_at - timedelta(milliseconds=3),
            max_attempts=limit,
            input=given,
            worker_identity="worker-1",
            trace_id=draw(st.none() | st.just("4bf92f3577b34da6a3ce929d0e0e4736")),
        )
        facts += [live, replace(live, trace_id=None, worker_identity=None, from_history=True)]
        facts.append(StepProgressed(step=step, at=attempt.started_at, progress=draw(json_values)))
    for attempt in attempts[:-1]:
        facts.append(_retried(draw, attempt))
    return facts + _last_try(draw, attempts[-1])


def _tries(draw: st.DrawFn, step: StepIdentity, at: datetime) -> list[AttemptIdentity]:
    count = draw(st.integers(1, 3))
    # A reset starts the numbers of a remote activity again.
    restarts = step.kind is StepKind.ACTIVITY and draw(st.booleans())
    return [
        AttemptIdentity(
            step=step,
            number=1 if restarts else number,
            started_at=at + timedelta(seconds=number, microseconds=number),
        )
        for number in range(1, count + 1)
    ]


def _retried(draw: st.DrawFn, attempt: AttemptIdentity) -> AttemptEnded:
    outcomes = [AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT, AttemptOutcome.LOST]
    outcome = draw(st.sampled_from(outcomes))
    due = None if outcome is AttemptOutcome.LOST else attempt.started_at + timedelta(seconds=1)
    return AttemptEnded(
        attempt=attempt,
        outcome=outcome,
        finished_at=attempt.started_at + timedelta(milliseconds=9),
        next_retry_at=draw(st.sampled_from([None, due])),
        error=draw(failures) if outcome is AttemptOutcome.FAILED else None,
    )


def _last_try(draw: st.DrawFn, attempt: AttemptIdentity) -> list[TrackerEvent]:
    """What its worker said of the last try, and what history says of it or of the step."""
    stack = draw(st.none() | texts)
    live, verdict = (_final(draw, attempt, stack, from_history=h) for h in (False, True))
    live = replace(live, annotations=draw(st.none() | json_objects))
    if draw(st.booleans()):
        return [live, verdict]
    closed = _step_close(draw, attempt.step, attempt.started_at, None, from_history=True)
    return [live, replace(closed, position=attempt.position)]


def _final(
    draw: st.DrawFn, attempt: AttemptIdentity, stack: str | None, *, from_history: bool
) -> AttemptEnded:
    outcome = draw(st.sampled_from(list(ENDINGS)))
    failed = outcome is AttemptOutcome.FAILED
    return AttemptEnded(
        attempt=attempt,
        outcome=outcome,
        finished_at=attempt.started_at + timedelta(milliseconds=5, microseconds=from_history),
        closes_step=ENDINGS[outcome],
        output=draw(payloads) if outcome is AttemptOutcome.COMPLETED else None,
        # The one stack of this attempt, by whoever tells it.
        error=Failure(type="ValueError", message=draw(texts), stack=stack) if failed else None,
        from_history=from_history,
    )


def _uuid(name: str, version: int) -> UUID:
    """A UUID that looks like those of Temporal: v7 from a start, v4 from a continuation."""
    key = derived_run_id(name, UUID(int=0), None)
    return UUID(int=key.int, version=4) if version == 4 else key
