"""`flowtrail runs timeline|step|of`: a run moment by moment, one step, all runs of a ref."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tracker.cli.output import JsonFlag, write_fields, write_json, write_table
from tracker.cli.run_arguments import RunArgument
from tracker.cli.settings import load_settings
from tracker.models.wire import PayloadRead


def register(commands: typer.Typer) -> None:
    """Add the commands to `runs`."""
    commands.command()(timeline)
    commands.command()(step)
    commands.command()(of)


def timeline(run_id: RunArgument, json: JsonFlag = False) -> None:
    """Show what happened in a run, oldest first."""
    with load_settings().client() as client:
        told = client.timeline(run_id)
    if json:
        write_json(told)
        return
    write_table(
        ("AT", "WHAT", "STEP", "ATTEMPT", "MESSAGE", "NEXT TRY"),
        (
            (one.at, one.event, one.step_name, one.attempt, one.message, one.next_retry_at)
            for one in told.entries
        ),
        "nothing is on record",
    )
    if told.truncated:
        typer.echo("not all of it: the run has more steps or attempts", err=True)


def step(
    run_id: RunArgument,
    step_id: Annotated[str, typer.Argument(help="Id of the step, as `runs show --json` has it.")],
    json: JsonFlag = False,
) -> None:
    """Show a step with its attempts and values."""
    with load_settings().client() as client:
        found = client.get_step(run_id, step_id)
    if json:
        write_json(found)
        return
    write_fields(
        [
            ("step", found.name),
            ("kind", found.kind),
            ("status", found.status),
            ("scheduled at", found.scheduled_at),
            ("started at", found.started_at),
            ("finished at", found.finished_at),
            ("input", _shown(found.input)),
            ("output", _shown(found.output)),
        ]
    )
    write_table(
        ("ATTEMPT", "OUTCOME", "STARTED", "FINISHED", "WORKER", "ERROR", "MESSAGE"),
        (
            (
                one.number,
                one.outcome,
                one.started_at,
                one.finished_at,
                one.worker_identity,
                None if one.error is None else one.error.type,
                None if one.error is None else one.error.message,
            )
            for one in found.attempts
        ),
        "no attempts",
    )


def of(
    ref: Annotated[str, typer.Argument(help="Business object, as ref_type/ref_id.")],
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    json: JsonFlag = False,
) -> None:
    """Show everything of one business object: its workflows, and its runs, newest first."""
    with load_settings().client() as client:
        found = client.runs_by_ref(ref, limit=limit)
    if json:
        write_json(found)
        return
    write_table(
        ("WORKFLOW TYPE", "RUNS", "LATEST", "SINCE"),
        (
            (one.workflow_type, one.runs_count, one.latest_status, one.latest_ordered_at)
            for one in found.workflows
        ),
        f"nothing of {ref} is on record",
    )
    if found.runs:
        typer.echo()
        write_table(
            ("RUN", "WORKFLOW TYPE", "STATUS", "STARTED", "FINISHED"),
            (
                (run.run_id, run.workflow_type, run.status, run.started_at, run.finished_at)
                for run in found.runs
            ),
            "",
        )
    if found.next_cursor is not None:
        typer.echo(f"the first {limit}; there are more", err=True)


def _shown(payload: PayloadRead | None) -> Any:
    if payload is None:
        return None
    return payload.base64 if payload.value is None and payload.base64 else payload.value
