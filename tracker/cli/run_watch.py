"""`flowtrail runs watch`: a run and its steps as they go on, or all changes of a business object.

On a terminal one table is drawn anew with every change; elsewhere each change is a line, so that
the output of a pipe or a log is complete.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tracker.cli.output import cell, took
from tracker.cli.run_arguments import RefOption
from tracker.cli.settings import load_settings
from tracker.client import WatchOptions
from tracker.core.status import CLOSED_RUN_STATUSES
from tracker.errors import InvalidRequest
from tracker.models.feed import Change, Snapshot
from tracker.models.wire import RunRead, StepState

Told = Change | Snapshot
HEAD_LINES = 4
"""Of a terminal, not for steps: the run, what is left out, the header, the prompt."""


def register(commands: typer.Typer) -> None:
    """Add the command to `runs`."""
    commands.command()(watch)


def watch(
    run_id: Annotated[str | None, typer.Argument(help="Run id, ours or Temporal's.")] = None,
    ref: RefOption = None,
    workflow_type: Annotated[
        list[str] | None, typer.Option("--type", help="Repeatable: any of them.")
    ] = None,
    status: Annotated[list[str] | None, typer.Option(help="Repeatable: any of them.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print each event as a line of JSON.")
    ] = False,
) -> None:
    """Follow a run until it ends, or all changes of a ref, a type or everything until Ctrl-C.

    The connection is made anew when it breaks; nothing is missed.
    """
    if run_id is not None and (ref or workflow_type or status):
        raise InvalidRequest("name a run, or filters, not both")
    options: WatchOptions = {
        "run": run_id,
        "ref": ref,
        "workflow_type": workflow_type,
        "status": status,
    }
    with load_settings().client() as client, closing(client.watch(**options)) as events:
        if json:
            _print_json(events, one=run_id is not None)
        elif run_id is not None and sys.stdout.isatty():
            _draw(events)
        else:
            print_lines(events, one=run_id is not None)


def has_ended(told: Told) -> bool:
    """Whether an event tells that the run which is watched has ended."""
    runs = told.runs if isinstance(told, Snapshot) else [told.run] if told.run else []
    return any(run.status in CLOSED_RUN_STATUSES for run in runs)


def _print_json(events: Iterable[Told], *, one: bool) -> None:
    for told in events:
        event = "snapshot" if isinstance(told, Snapshot) else "change"
        body = told.model_dump(mode="json", exclude_none=True)
        typer.echo(json.dumps({"event": event, **body}, ensure_ascii=False))
        if one and has_ended(told):
            return


def print_lines(events: Iterable[Told], *, one: bool) -> None:
    """Print each event as a line; `one`: until the run that is watched has ended."""
    console = Console(soft_wrap=True, highlight=False)
    for told in events:
        for line in _lines(told):
            console.print(line)
        if one and has_ended(told):
            return


def _lines(told: Told) -> list[Text]:
    if isinstance(told, Change):
        return [_line(told.at, told.run_id, told.ref_type, told.ref_id, told.run, told.step)]
    lines = [
        _line(run.ordered_at, run.run_id, run.ref_type, run.ref_id, run, None)
        for run in reversed(told.runs)
    ]
    return lines + [_line(None, None, None, None, None, step) for step in told.steps]


def _line(
    at: datetime | None,
    run_id: UUID | None,
    ref_type: str | None,
    ref_id: str | None,
    run: RunRead | None,
    step: StepState | None,
) -> Text:
    ref = None if ref_type is None else f"{ref_type}/{ref_id}"
    what, status = ("", None) if run is None else (run.workflow_type, run.status)
    trouble = None if run is None else run.error
    if step is not None:
        what, status, trouble = f"{step.kind} {step.name}", step.status, step.error
    moment = at or (None if step is None else step.finished_at or step.started_at)
    confirmed = "confirmed by history" if run is not None and run.from_history else None
    parts: list[Any] = [moment, run_id, ref, what, status, confirmed, _tries(step)]
    if trouble is not None:
        parts.append(f"{trouble.type}: {trouble.message or 'no message kept'}")
    return Text("  ").join(cell(part) for part in parts if part not in (None, ""))


def _tries(step: StepState | None) -> str | None:
    if step is None or step.attempts_count < 2:
        return None
    return f"attempt {step.attempts_count}"


class RunView:
    """A run and its steps as the events tell them."""

    def __init__(self) -> None:
        self.run: RunRead | None = None
        self._steps: dict[UUID, StepState] = {}

    @property
    def steps(self) -> list[StepState]:
        """In the order in which they were asked for."""
        return sorted(self._steps.values(), key=_place)

    def take(self, told: Told) -> None:
        """Take in an event."""
        if isinstance(told, Snapshot):
            self.run = told.runs[0] if told.runs else None
            self._steps = {step.step_id: step for step in told.steps}
        elif told.step is not None:
            self._steps[told.step.step_id] = told.step
        elif told.run is not None:
            self.run = told.run

    def table(self, most: int | None = None) -> Group:
        """What a terminal shows.

        Args:
            most: Steps, the newest of them; None: all.
        """
        earlier = 0 if most is None else max(0, len(self._steps) - most)
        # Where lines are counted, a step is one: its error gets what is left of it.
        one = most is not None
        table = Table(box=None, header_style="bold", pad_edge=False, expand=one)
        for header in ("STEP", "KIND", "STATUS", "ATTEMPT", "TOOK", "NEXT TRY", "ERROR"):
            ratio = 1 if one and header == "ERROR" else None
            overflow = "ellipsis" if one else "fold"
            table.add_column(header, overflow=overflow, no_wrap=one, ratio=ratio)
        for step in self.steps[earlier:]:
            error = None if step.error is None else step.error.message or step.error.type
            row = (
                step.name,
                step.kind,
                step.status,
                step.attempts_count or None,
                took(step.started_at, step.finished_at),
                step.next_retry_at,
                error,
            )
            table.add_row(*(cell(value) for value in row))
        shown = [Text(f"… {earlier} earlier steps")] if earlier else []
        head = self._head()
        head.no_wrap, head.overflow = one, "ellipsis" if one else "fold"
        return Group(head, *shown, table)

    def _head(self) -> Text:
        run = self.run
        if run is None:
            return Text("waiting for the run")
        ref = None if run.ref_type is None else f"{run.ref_type}/{run.ref_id}"
        told = [run.workflow_type, ref, run.status, took(run.started_at, run.finished_at)]
        if run.error is not None:
            told.append(f"{run.error.type}: {run.error.message or 'no message kept'}")
        return Text("  ").join(cell(part) for part in told if part is not None)


def _draw(events: Iterable[Told]) -> None:
    view, console = RunView(), Console()
    with Live(view.table(), console=console, refresh_per_second=10) as live:
        for told in events:
            view.take(told)
            if has_ended(told):
                live.update(view.table())
                return
            live.update(view.table(max(1, console.height - HEAD_LINES)))


def _place(step: StepState) -> tuple[str, str]:
    moment = step.scheduled_at or step.started_at
    return ("" if moment is None else moment.isoformat(), str(step.step_id))
