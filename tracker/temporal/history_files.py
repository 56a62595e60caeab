"""Histories in files: JSON as the Temporal CLI, UI and SDKs write it, or protobuf.

What a reader gets wrong: the run id that a history begins with is that of the run from which it was
copied if the run was reset; the reset itself, further on, names the run that it is of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from google.protobuf.message import DecodeError
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.client import WorkflowHistory

from tracker.errors import InvalidRequest

SIZE_MAX = 512 * 1024 * 1024
"""Bytes of a file; Temporal ends a run whose history reaches 50 MB, and JSON is longer."""
SUFFIXES = (".json", ".pb", ".bin", ".binpb")
"""What is taken from a folder."""


@dataclass(frozen=True, slots=True)
class HistoryDump:
    """One run's history.

    Attributes:
        run_key: Temporal's run id.
    """

    workflow_id: str
    workflow_type: str
    run_key: UUID
    events: Sequence[HistoryEvent]


def history_paths(paths: Sequence[Path]) -> Iterator[Path]:
    """Files as they are; of folders, the files in them that end on one of `SUFFIXES`, sorted."""
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
        else:
            yield path


def read_history(path: Path, workflow_id: str | None = None) -> HistoryDump:
    """Read a dump.

    Args:
        workflow_id: Where the dump does not tell it, as old servers' do not.

    Raises:
        InvalidRequest: It cannot be read, is no whole history, or lacks an id.
    """
    try:
        size = path.stat().st_size
        if size > SIZE_MAX:
            raise InvalidRequest(f"{path}: {size} bytes are no history; {SIZE_MAX} is the most")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from error
    events = _parse(path, data)
    if not events or not events[0].HasField("workflow_execution_started_event_attributes"):
        raise InvalidRequest(f"{path}: a history begins with WorkflowExecutionStarted")
    numbers = [event.event_id for event in events]
    if numbers != list(range(1, len(events) + 1)):
        raise InvalidRequest(f"{path}: events are missing or out of order; dump the whole history")
    started = events[0].workflow_execution_started_event_attributes
    found = started.workflow_id or workflow_id
    if not found:
        raise InvalidRequest(f"{path}: it does not tell its workflow id; give --workflow-id")
    return HistoryDump(found, started.workflow_type.name, _run_key(path, events), events)


def _parse(path: Path, data: bytes) -> Sequence[HistoryEvent]:
    if data.lstrip()[:1] == b"{":
        try:
            return WorkflowHistory.from_json("", data.decode()).events
        except Exception as error:  # Whatever json, protobuf or the SDK make of somebody's file.
            raise InvalidRequest(f"{path}: not a history as JSON: {error}") from error
    try:
        return History.FromString(data).events
    except DecodeError as error:
        raise InvalidRequest(
            f"{path}: neither JSON nor a protobuf temporal.api.history.v1.History"
        ) from error


def _run_key(path: Path, events: Sequence[HistoryEvent]) -> UUID:
    text = events[0].workflow_execution_started_event_attributes.original_execution_run_id
    for event in events:
        failed = event.workflow_task_failed_event_attributes
        if failed.cause == _RESET and failed.new_run_id:
            text = failed.new_run_id
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidRequest(f"{path}: it does not tell its run id") from error


_RESET = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
