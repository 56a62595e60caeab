"""Do the rows of a run say what its history says? The declared fields, and the pure comparison.

Every recorded column is either compared or left out for a reason that stands here; a test holds
both against the merge table. What a reader gets wrong: history does not know everything that a row
holds (earlier attempts, stacks), so only what history *states* is compared, never its silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from tracker.core.batch import Batch
from tracker.core.ids import Ref
from tracker.core.merge import ATTEMPT, RUN, STEP, Row, Rule, Table
from tracker.core.metadata import patched
from tracker.core.status import CLOSED_RUN_STATUSES, CLOSED_STEP_STATUSES, StepKind

_DECIDES = "decides between sources; says nothing of the run"
_STACK = "the SDK adds frames of its own after the worker's interceptors have seen an error"

LEFT_OUT: Mapping[str, Mapping[str, str]] = {
    "run": {
        "id": "ours; Temporal does not know it where the memo cannot be read",
        "engine": "ours",
        "ordered_at": "set at insert and never changed",
        "accepted_at": "ours: before Temporal was asked",
        "ref_version": _DECIDES,
        "status_version": _DECIDES,
        "input_version": _DECIDES,
        "metadata_version": _DECIDES,
        "worker_version": _DECIDES,
        "worker_identity": "a worker that takes over may be told live after history was read",
        "build_id": "as worker_identity",
        "error_stack": _STACK,
        "task_failure_version": _DECIDES,
        "task_failed_at": "history keeps one failure of a series, workers tell all",
        "task_failure_type": "as task_failed_at",
        "task_failure_message": "as task_failed_at",
        "projected_length": "about the projection",
        "projected_at": "about the projection",
    },
    "step": {
        "id": "computed from what is compared",
        "status_version": _DECIDES,
        "input_version": _DECIDES,
        "next_retry_at": "only of open steps",
        "progress_at": "live only",
        "progress": "live only",
    },
    "attempt": {
        "id": "computed from what is compared",
        "step_id": "computed from what is compared",
        "outcome_version": _DECIDES,
        "scheduled_at": "live only",
        "annotations": "live only",
        "trace_id": "live only",
        "build_id": "history names the build only under worker versioning",
        "error_stack": _STACK,
        "next_retry_at": "only of attempts that history does not keep, but for local activities",
    },
    "payload": {
        "encoding": "follows from the value",
        "body": "jsonb keeps neither spacing nor the order of keys; the digest stands for it",
        "data": "the digest stands for it",
        "key_id": "rotation changes it",
        "stored_at": "ours",
        "treatment": "the policy of whoever stored it; its digest is that of history all the same",
    },
}
"""Table → column → why `verify` does not compare it."""

PAYLOAD_FIELDS = ("digest", "size")
"""Compared of each stored value that history names, beside its id, which its digest is part of."""

ERASED = frozenset(
    {"input_id", "output_id", "metadata", "detail", "error_type", "error_message", "error_stack"}
)
"""Columns that an erasure empties, for good."""

_NOT_LATER = frozenset(
    {("step", "scheduled_at"), ("step", "started_at"), ("attempt", "started_at")}
)
"""History states these as "at the latest then": of attempts it keeps the last."""

_NOT_EARLIER = frozenset({("step", "last_started_at")})
"""A worker learns of a child's start with the next workflow task, and dates it so."""

_MAY_BE_LIVE_ONLY = frozenset({StepKind.LOCAL_ACTIVITY, StepKind.UPDATE})
"""A rejected update leaves no history event; neither does what a worker did in a workflow task that
never completed."""


def compared(table: Table) -> tuple[str, ...]:
    """The declared fields of a table."""
    left_out = LEFT_OUT[table.name]
    return tuple(c.name for c in table.columns if c.name not in left_out)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which a stored row and history disagree.

    Attributes:
        table: `run`, `run_ref`, `step`, `attempt` or `payload`.
        key: Id of the row.
        row: What people call it: step kind and name, attempt number, role of a value.
        column: Its name, or `*`: one of both does not have the row.
        stored, history: The two values; None also where a side has none.
    """

    table: str
    key: UUID
    row: str
    column: str
    stored: Any
    history: Any


@dataclass(frozen=True, slots=True)
class StoredRun:
    """The rows of one run as the tables have them.

    Attributes:
        refs: Primary and further ones.
        payloads: By id; those that the rows point to, at least.
        missed: Ids of values that are not there and were not purged.
    """

    run: Mapping[str, Any]
    steps: Mapping[UUID, Mapping[str, Any]] = field(default_factory=dict[UUID, Mapping[str, Any]])
    attempts: Mapping[UUID, Mapping[str, Any]] = field(
        default_factory=dict[UUID, Mapping[str, Any]]
    )
    payloads: Mapping[UUID, Mapping[str, Any]] = field(
        default_factory=dict[UUID, Mapping[str, Any]]
    )
    refs: frozenset[Ref] = frozenset()
    missed: frozenset[UUID] = frozenset()

    @property
    def is_erased(self) -> bool:
        """Whether its values and texts were erased."""
        return self.run.get("erased_at") is not None


def compare(stored: StoredRun, history: Batch) -> list[Difference]:
    """Hold a run's rows against what its history folds to.

    Args:
        stored: Read after the history was.
        history: Of this run alone, projected under the policy under which its rows were recorded.

    Returns:
        In a stable order; empty if history confirms every declared field.
    """
    (told,) = history.runs.values()
    expected = {**told, "metadata": patched(told.get("metadata"), stored.run.get("metadata_patch"))}
    is_closed = expected["status"] in CLOSED_RUN_STATUSES
    found = list(_fields(RUN, "run", stored.run, expected, decided=is_closed))
    if not is_closed and stored.run["status"] in CLOSED_RUN_STATUSES:
        status, still = str(stored.run["status"]), str(expected["status"])
        found.append(Difference("run", stored.run["id"], "run", "status", status, still))
    found += _refs(stored, history)
    found += _steps(stored, history, is_closed)
    found += _attempts(stored, history)
    found += _payloads(stored, history, is_closed)
    if stored.is_erased:
        return [one for one in found if one.column not in ERASED]
    return found


def _refs(stored: StoredRun, history: Batch) -> Iterator[Difference]:
    run = stored.run
    told = {ref for _, ref in history.refs}
    if run["ref_type"] is not None:
        told.add(Ref(run["ref_type"], run["ref_id"]))
    for ref in sorted(told - stored.refs, key=str):
        yield Difference("run_ref", run["id"], "run", "*", None, str(ref))


def _steps(stored: StoredRun, history: Batch, is_closed: bool) -> Iterator[Difference]:
    for key, expected in history.steps.items():
        decided = expected["status"] in CLOSED_STEP_STATUSES
        row = stored.steps.get(key)
        if row is not None:
            yield from _fields(STEP, _step_name(row), row, expected, decided=decided)
        elif is_closed or (decided and expected["kind"] in _TOLD_LIVE):
            yield Difference("step", key, _step_name(expected), "*", None, str(expected["status"]))
    if not is_closed:
        return
    for key, row in stored.steps.items():
        if key not in history.steps and row["kind"] not in _MAY_BE_LIVE_ONLY:
            yield Difference("step", key, _step_name(row), "*", str(row["status"]), None)


_TOLD_LIVE = frozenset({StepKind.ACTIVITY, StepKind.LOCAL_ACTIVITY})
"""Of an open run the tables must hold these; others come with the run's projection."""


def _attempts(stored: StoredRun, history: Batch) -> Iterator[Difference]:
    for key, expected in history.attempts.items():
        step = history.steps[expected["step_id"]]
        if step["status"] not in CLOSED_STEP_STATUSES:
            continue
        name = f"{_step_name(step)} #{expected['number']}"
        row = stored.attempts.get(key)
        if row is None:
            yield Difference("attempt", key, name, "*", None, str(expected["outcome"]))
        else:
            yield from _fields(ATTEMPT, name, row, expected, decided=True)


def _payloads(stored: StoredRun, history: Batch, is_closed: bool) -> Iterator[Difference]:
    for name, column, owner in _owners(stored):
        key = owner.get(column)
        expected = None if key is None else history.payloads.get(key)
        if key is None or expected is None:
            continue  # A foreign id is a difference of the owner's column.
        row = stored.payloads.get(key)
        where = f"{name} {column.removesuffix('_id')}"
        if row is None:
            if is_closed and key in stored.missed:
                yield Difference("payload", key, where, "*", None, expected.digest.hex())
            continue
        for part in PAYLOAD_FIELDS:
            one, other = _plain(row[part]), _plain(getattr(expected, part))
            if one != other:
                yield Difference("payload", key, where, part, one, other)


def _owners(stored: StoredRun) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    owners: Iterable[tuple[str, Mapping[str, Any]]] = [
        ("run", stored.run),
        *((_step_name(step), step) for step in stored.steps.values()),
    ]
    for name, owner in owners:
        for column in ("input_id", "output_id"):
            yield name, column, owner


def _fields(
    table: Table, name: str, row: Mapping[str, Any], expected: Row, *, decided: bool
) -> Iterator[Difference]:
    for column in _stated(table, row, expected, decided=decided):
        one, other = _plain(row.get(column)), _plain(expected.get(column))
        if one == other:
            continue
        if (table.name, column) in _NOT_LATER and one is not None and one < other:
            continue
        if (table.name, column) in _NOT_EARLIER and one is not None and one > other:
            continue
        yield Difference(table.name, expected["id"], name, column, one, other)


def _stated(table: Table, row: Mapping[str, Any], expected: Row, *, decided: bool) -> Iterator[str]:
    """The declared fields that this row of history has a word on."""
    left_out = LEFT_OUT[table.name]
    for column in table.columns:
        if column.name in left_out:
            continue
        if column.rule is Rule.GREATEST:
            if _is_verdict(column.version, row, expected, decided=decided):
                yield column.name
        elif expected.get(column.name) is not None:
            if column.rule is Rule.MAX and not decided:
                continue  # An open step may have got on since.
            yield column.name


def _is_verdict(
    version: str | None, row: Mapping[str, Any], expected: Row, *, decided: bool
) -> bool:
    if version is None or expected.get(version) is None:
        return False
    if version == "ref_version":
        # A rule may have been applied to the tables that is not in force here.
        return (row.get(version) or 0) <= expected[version]
    return decided or version == "input_version"


def _step_name(step: Mapping[str, Any]) -> str:
    return f"{step['kind']} {step['name']}"


def _plain(value: Any) -> Any:
    """A value as both sides can write it: enums as text, JSON as Postgres gives it back."""
    if value is None or isinstance(value, (bool, int, float, datetime, UUID)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value).hex()
    if isinstance(value, Mapping | Sequence):
        return json.loads(json.dumps(value, sort_keys=True, default=str))
    return value
