"""Runs and changes in Flowflare's shapes. Inputs, outputs, metadata and states are JSON *texts*
there, as JavaScript's `JSON.stringify` writes them, and statuses are its own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tracker.core.status import Engine, RunStatus, StepKind, StepStatus
from tracker.errors import InvalidRequest
from tracker.store.payloads import payload_value
from tracker.store.run_trees import RunTree, StoredValue, TreeFilter

ABSENT = "_"
"""In the place of a ref's other half, where a caller gave one of them alone."""

_RUN_STATUSES: Mapping[str, frozenset[RunStatus]] = {
    "Pending": frozenset({RunStatus.ACCEPTED}),
    "Running": frozenset({RunStatus.RUNNING}),
    "Sleeping": frozenset({RunStatus.RUNNING}),
    "Completed": frozenset({RunStatus.COMPLETED, RunStatus.CONTINUED_AS_NEW}),
    "Errored": frozenset(
        {
            RunStatus.FAILED,
            RunStatus.CANCELED,
            RunStatus.TERMINATED,
            RunStatus.TIMED_OUT,
            RunStatus.REJECTED,
            RunStatus.LOST,
        }
    ),
}
_WORD_OF = {status: word for word, some in reversed(_RUN_STATUSES.items()) for status in some}
_STEP_WORDS = {
    StepStatus.SCHEDULED: "Pending",
    StepStatus.STARTED: "Running",
    StepStatus.COMPLETED: "Completed",
    StepStatus.FAILED: "Failed",
    StepStatus.CANCELED: "Failed",
    StepStatus.TIMED_OUT: "Failed",
}


def tree_filter(
    status: str | None, ref_id: str | None, ref_type: str | None, limit: int, offset: int
) -> TreeFilter:
    """What a query asks for.

    Raises:
        InvalidRequest: The status is none of Flowflare's.
    """
    if status is not None and status not in _RUN_STATUSES:
        raise InvalidRequest(
            f"expected status to be one of {', '.join(_RUN_STATUSES)}, got {status!r}",
            field="status",
        )
    return TreeFilter(
        statuses=None if status is None else _RUN_STATUSES[status],
        sleeping={"Running": False, "Sleeping": True}.get(status or ""),
        ref_id=ref_id,
        ref_types=None if ref_type is None else frozenset({ref_type}),
        limit=limit,
        offset=offset,
    )


def run_shape(tree: RunTree) -> dict[str, Any]:
    """A run with its steps and their retries."""
    run = tree.run
    steps = [step_shape(tree, step, place) for place, step in enumerate(tree.steps, 1)]
    return {
        **run_fields(tree),
        "created_at": _time(run["ordered_at"]),
        "updated_at": _time(_updated(tree)),
        "steps": sorted(steps, key=lambda step: step["step_index"]),
    }


def run_fields(tree: RunTree) -> dict[str, Any]:
    """A run as an update tells it."""
    run = tree.run
    sleep_until = _sleep_until(run)
    return {
        "id": wire_id(run),
        "workflow_id": tree.workflow_number,
        "status": _run_word(run, sleep_until),
        "ref_id": _half(run["ref_id"]),
        "ref_type": _half(run["ref_type"]),
        "input_params": _input(tree.values.get(run["input_id"])),
        "output_result": _output(tree),
        "metadata": None if run["metadata"] is None else stringify(run["metadata"]),
        "completed_at": _time(run["finished_at"]),
        "sleep_until": _time(sleep_until),
    }


def step_shape(tree: RunTree, step: Mapping[str, Any], place: int) -> dict[str, Any]:
    """A step with its retries."""
    retries = [
        {
            "id": str(attempt["id"]),
            "workflow_step_id": str(step["id"]),
            "retry_count": attempt["number"],
            "retry_at": _time(attempt["next_retry_at"]),
            "last_error": attempt["error_message"] or attempt["error_type"],
            "created_at": _time(attempt["finished_at"]),
        }
        for attempt in tree.retries.get(step["id"], ())
    ]
    output = tree.values.get(step["output_id"])
    return {
        "id": str(step["id"]),
        **step_fields(step, wire_id(tree.run), place, output),
        "retries": sorted(retries, key=lambda retry: retry["retry_count"]),
    }


def step_fields(
    step: Mapping[str, Any], run_id: str, place: int, output: StoredValue | None
) -> dict[str, Any]:
    """A step as an update tells it."""
    detail = step["detail"] or {}
    return {
        "workflow_run_id": run_id,
        "step_name": step["name"],
        "status": _step_word(step),
        "step_index": detail.get("index", place) if step["kind"] == StepKind.EXTERNAL else place,
        "state": _state(step, output),
        "started_at": _time(step["started_at"]),
        "completed_at": _time(step["finished_at"]),
    }


def wire_id(run: Mapping[str, Any]) -> str:
    """A run's id on this wire: its owner's own, where it is driven from outside."""
    return run["workflow_id"] if run["engine"] == Engine.EXTERNAL else str(run["id"])


def stringify(value: Any) -> str:
    """As `JSON.stringify`: no spaces, nothing escaped that need not be."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _run_word(run: Mapping[str, Any], sleep_until: datetime | None) -> str:
    return "Sleeping" if sleep_until is not None else _WORD_OF[RunStatus(run["status"])]


def _sleep_until(run: Mapping[str, Any]) -> datetime | None:
    """When the first timer fires of a run that waits for timers alone."""
    waiting = run["waiting_on"]
    if run["status"] != RunStatus.RUNNING or not waiting:
        return None
    if any(one.get("kind") != "timer" for one in waiting):
        return None
    until = [datetime.fromisoformat(one["until"]) for one in waiting if one.get("until")]
    return min(until, default=None)


def _step_word(step: Mapping[str, Any]) -> str:
    if step["status"] == StepStatus.SCHEDULED and step["next_retry_at"] is not None:
        return "Retrying"
    return _STEP_WORDS[StepStatus(step["status"])]


def _state(step: Mapping[str, Any], output: StoredValue | None) -> str | None:
    """What the original keeps in a step: its result, or why it failed and what follows."""
    word = _step_word(step)
    if word == "Completed":
        return None if output is None else _plain(output)
    if word not in ("Failed", "Retrying"):
        return None
    if isinstance(step["progress"], str) and step["kind"] == StepKind.EXTERNAL:
        return step["progress"]
    retry = None
    if word == "Retrying":
        most = step["max_attempts"]
        retry = {
            "count": step["attempts"],
            "maxRetries": None if most is None else most - 1,
            "nextRetryAt": _time(step["next_retry_at"]),
        }
    return stringify({"error": step["error_message"] or step["error_type"], "retry": retry})


def _plain(output: StoredValue) -> str | None:
    """A result as `trackStep` writes it: objects as JSON, anything else as a plain string."""
    if output.text is not None:
        return output.text
    available, value = payload_value(output.read)
    if not available:
        return None
    return value if isinstance(value, str) else stringify(value)


def _input(stored: StoredValue | None) -> str | None:
    if stored is None:
        return None
    if stored.text is not None:
        return stored.text
    available, value = payload_value(stored.read)
    if not available:
        return None
    # The list of the arguments, of which Flowflare's workflows have one.
    return stringify(value[0] if isinstance(value, list) and len(value) == 1 else value)


def _output(tree: RunTree) -> str | None:
    run = tree.run
    if run["engine"] == Engine.EXTERNAL and run["error_stack"] is not None:
        return run["error_stack"]
    if run["error_type"] is not None:
        return stringify({"success": False, "error": run["error_message"] or run["error_type"]})
    stored = tree.values.get(run["output_id"])
    if stored is None or stored.text is not None:
        return None if stored is None else stored.text
    available, value = payload_value(stored.read)
    return stringify(value) if available else None


def _updated(tree: RunTree) -> datetime:
    run = tree.run
    moments = [run[name] for name in ("ordered_at", "started_at", "finished_at", "waiting_on_at")]
    for step in tree.steps:
        moments += [step["last_started_at"], step["finished_at"]]
    return max(moment for moment in moments if moment is not None)


def _half(part: str | None) -> str | None:
    return None if part == ABSENT else part


def _time(moment: datetime | str | None) -> str | None:
    if moment is None:
        return None
    if isinstance(moment, str):  # As a change has it.
        moment = datetime.fromisoformat(moment)
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
