"""Rows into read models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tracker.core.status import HISTORY_AUTHORITY, AttemptOutcome
from tracker.models.wire import AttemptRead, ErrorInfo, RunRead, StepRead, TaskFailure

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tries:
    """Attempts of one step, oldest first, and whether older ones were left out."""

    attempts: list[AttemptRead]
    truncated: bool


NO_TRIES = Tries([], truncated=False)


def run_read(row: Row) -> RunRead:
    """A run as lists show it, from a row of `run`."""
    return RunRead(**run_fields(row))


def run_fields(row: Row) -> dict[str, Any]:
    """Fields of `RunRead` from a row of `run`."""
    return {
        **{name: row[name] for name in _RUN_FIELDS},
        "run_id": row["id"],
        "temporal_run_id": row["run_key"],
        "parent_temporal_run_id": row["parent_run_key"],
        "first_temporal_run_id": row["first_run_key"],
        "error": error_info(row),
        "from_history": row["status_version"] >= HISTORY_AUTHORITY,
    }


def task_failure(row: Row) -> TaskFailure | None:
    """The latest workflow task failure of a run."""
    if row["task_failed_at"] is None:
        return None
    return TaskFailure(
        at=row["task_failed_at"],
        type=row["task_failure_type"] or "",
        message=row["task_failure_message"],
    )


def step_read(row: Row, run_id: UUID, tries: Tries) -> StepRead:
    """A step with its attempts, from a row of `step`."""
    return StepRead(**step_fields(row, run_id, tries))


def step_fields(row: Row, run_id: UUID, tries: Tries) -> dict[str, Any]:
    """Fields of `StepRead` from a row of `step`."""
    return step_state(row, run_id) | {
        "attempts_count": max(row["attempts"] or 0, len(tries.attempts)),
        "attempts": tries.attempts,
        "attempts_truncated": tries.truncated,
    }


def step_state(row: Row, run_id: UUID | None) -> dict[str, Any]:
    """Fields of `StepState` from a row of `step`."""
    return {
        **{name: row[name] for name in _STEP_FIELDS},
        "step_id": row["id"],
        "run_id": run_id,
        "attempts_count": row["attempts"] or 0,
        "error": error_info(row),
        "from_history": row["status_version"] >= HISTORY_AUTHORITY,
    }


def attempt_read(row: Row, step: Row) -> AttemptRead:
    """An attempt, from rows of `attempt` and its `step`."""
    return AttemptRead(
        **{name: row[name] for name in _ATTEMPT_FIELDS},
        attempt_id=row["id"],
        outcome=_outcome(row, step),
        error=error_info(row),
    )


def error_info(row: Row) -> ErrorInfo | None:
    """The error of a run, step or attempt."""
    if row["error_type"] is None:
        return None
    return ErrorInfo(
        type=row["error_type"], message=row["error_message"], stack=row.get("error_stack")
    )


def _outcome(row: Row, step: Row) -> AttemptOutcome:
    """As the view `v_attempts` infers it: an attempt that never reported its end is lost once a
    later one began or the step closed."""
    outcome = AttemptOutcome(row["outcome"])
    if outcome is not AttemptOutcome.RUNNING:
        return outcome
    overtaken = step["last_started_at"] is not None and row["started_at"] < step["last_started_at"]
    gone = step["finished_at"] is not None or overtaken
    return AttemptOutcome.LOST if gone else outcome


_RUN_FIELDS = (
    "namespace",
    "engine",
    "workflow_type",
    "workflow_id",
    "task_queue",
    "ref_type",
    "ref_id",
    "status",
    "ordered_at",
    "accepted_at",
    "started_at",
    "finished_at",
    "metadata",
    "attempt",
    "parent_workflow_id",
    "continued_from",
    "continued_to",
    "duplicate_of",
    "rerun_of",
)

RUN_COLUMNS = (
    *_RUN_FIELDS,
    "id",
    "run_key",
    "parent_run_key",
    "first_run_key",
    "status_version",
    "error_type",
    "error_message",
    "error_stack",
)
"""All that `run_read` needs of a run, for statements that are too hot to read the whole row."""

_STEP_FIELDS = (
    "kind",
    "name",
    "type",
    "status",
    "max_attempts",
    "task_queue",
    "scheduled_at",
    "started_at",
    "finished_at",
    "next_retry_at",
    "progress",
    "progress_at",
    "detail",
)

_ATTEMPT_FIELDS = (
    "number",
    "scheduled_at",
    "started_at",
    "finished_at",
    "next_retry_at",
    "task_queue",
    "worker_identity",
    "build_id",
    "trace_id",
    "annotations",
)
