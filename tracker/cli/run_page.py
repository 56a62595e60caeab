"""Runs on the terminal: a page of them, or one with its steps, each followed by its attempts where
there was more than one or one that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer

from tracker.cli.output import took, write_fields, write_table
from tracker.core.status import AttemptOutcome
from tracker.models.wire import (
    AttemptRead,
    ErrorInfo,
    OutboxEntryRead,
    PayloadRead,
    RunDetail,
    RunPage,
    RunRead,
    StepRead,
)


def write_page(page: RunPage) -> None:
    """Print a page of runs; how to go on goes to stderr, out of the way of pipes."""
    write_table(
        ["RUN", "TYPE", "REF", "STATUS", "SINCE"],
        [
            (run.run_id, run.workflow_type, _ref(run), run.status, run.ordered_at)
            for run in page.runs
        ],
        empty="No runs match.",
    )
    if page.next_cursor is not None:
        typer.echo(f"more: --cursor {page.next_cursor}", err=True)


def write_run(run: RunDetail) -> None:
    """Print a run."""
    write_fields(
        [
            ("run", run.run_id),
            ("type", run.workflow_type),
            ("ref", _ref(run)),
            ("further refs", _further(run)),
            ("status", run.status),
            ("error", _error(run.error)),
            ("task failure", run.task_failure and _error_text(run.task_failure)),
            ("workflow id", run.workflow_id),
            ("temporal run", run.temporal_run_id),
            ("task queue", run.task_queue),
            ("accepted", run.accepted_at),
            ("started", run.started_at),
            ("finished", run.finished_at),
            ("paused", run.paused_at),
            *(("waits for", _entry_text(entry)) for entry in run.waiting_on or ()),
            ("took", took(run.started_at, run.finished_at)),
            ("continued to", run.continued_to),
            ("duplicate of", run.duplicate_of),
            ("metadata", run.metadata or None),
            ("input", _payload(run.input)),
            ("output", _payload(run.output)),
            *(("outbox", _waiting(entry)) for entry in run.outbox),
        ]
    )
    typer.echo()
    write_table(
        ["STEP", "STATUS", "STARTED", "TOOK", "ATTEMPT", "NEXT TRY", "ERROR"],
        _rows(run.steps),
        empty="No steps yet.",
    )
    if run.steps_truncated:
        typer.echo("more steps than are shown here; see /v1/runs/{id}/timeline")


def _waiting(entry: OutboxEntryRead) -> str:
    """What Temporal has not confirmed, and what became of trying."""
    state = "waits" if entry.dead_at is None else "is dead"
    why = "" if entry.last_error is None else f": {entry.last_error}"
    return f"{entry.kind} {entry.id} {state} after {entry.tries} tries{why}"


def _entry_text(entry: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in entry.items() if name != "kind")
    return f"{entry['kind']} ({facts})" if facts else str(entry["kind"])


def _rows(steps: list[StepRead]) -> Iterator[tuple[Any, ...]]:
    for step in steps:
        tries = f"{step.attempts_count}/{step.max_attempts or '∞'}" if step.attempts_count else ""
        yield (
            step.name,
            step.status,
            step.started_at,
            took(step.started_at, step.finished_at),
            tries,
            step.next_retry_at,
            _error(step.error),
        )
        if len(step.attempts) > 1 or any(_failed(attempt) for attempt in step.attempts):
            for attempt in step.attempts:
                yield _attempt_row(attempt)


def _attempt_row(attempt: AttemptRead) -> tuple[Any, ...]:
    return (
        "  └",
        attempt.outcome,
        attempt.started_at,
        took(attempt.started_at, attempt.finished_at),
        attempt.number,
        attempt.next_retry_at,
        _error(attempt.error),
    )


def _failed(attempt: AttemptRead) -> bool:
    return attempt.outcome not in (AttemptOutcome.RUNNING, AttemptOutcome.COMPLETED)


def _ref(run: RunRead) -> str | None:
    return None if run.ref_type is None else f"{run.ref_type}/{run.ref_id}"


def _further(run: RunDetail) -> str | None:
    refs = [f"{ref.ref_type}/{ref.ref_id}" for ref in run.refs if not ref.primary]
    return ", ".join(refs) or None


def _error(error: ErrorInfo | None) -> str | None:
    return None if error is None else _error_text(error)


def _error_text(error: Any) -> str:
    return error.type if error.message is None else f"{error.type}: {error.message}"


def _payload(payload: PayloadRead | None) -> str | None:
    if payload is None:
        return None
    if payload.value is not None or (payload.base64 is None and payload.treatment == "full"):
        return json.dumps(payload.value, ensure_ascii=False)
    return f"{payload.size} bytes, {payload.encoding}, {payload.treatment}"
