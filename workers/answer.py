"""Shows the answer of a query by reference to people: the runs of the ref, then the steps and
attempts of one run."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.table import Table

from tracker.models.wire import ErrorInfo, RefOverview, RunDetail


def print_answer(console: Console, overview: RefOverview, run: RunDetail) -> None:
    """Print what is on record for a ref, and everything about one of its runs."""
    console.print()
    console.print(f"[bold]GET /v1/refs/{overview.ref_type}/{overview.ref_id}")
    for workflow in overview.workflows:
        console.print(
            f"  {workflow.workflow_type}: {workflow.latest_status}, {workflow.runs_count} run(s)"
        )
    console.print()
    console.print(f"[bold]GET /v1/runs/{run.run_id}")
    console.print(f"  {run.workflow_type} {run.status}, {_took(run.started_at, run.finished_at)}")
    if run.output is not None:
        console.print(f"  output {run.output.value}", soft_wrap=True, markup=False)
    console.print(_steps(run))


def _steps(run: RunDetail) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for title in ("step", "status", "attempt", "outcome", "took", "error", "next try at"):
        table.add_column(title, no_wrap=title != "error", overflow="fold")
    for step in run.steps:
        took = _took(step.started_at, step.finished_at)
        first = (step.name, step.status)
        for attempt in step.attempts:
            table.add_row(
                *first,
                str(attempt.number),
                attempt.outcome,
                _took(attempt.started_at, attempt.finished_at),
                _short(attempt.error),
                f"{attempt.next_retry_at:%H:%M:%S.%f}"[:-4] if attempt.next_retry_at else "",
            )
            first = ("", "")
        if not step.attempts:
            table.add_row(*first, "", "", took, _short(step.error), "")
    return table


def _short(error: ErrorInfo | None) -> str:
    text = (error.message or error.type) if error else ""
    return text if len(text) <= 60 else text[:59] + "…"


def _took(start: datetime | None, end: datetime | None) -> str:
    if start is None or end is None:
        return ""
    return f"{(end - start).total_seconds():.3f} s"
