"""`flowtrail runs rerun|reset|pause|…`: what makes another run out of one, holds it, or changes
what is on record of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tracker.cli.output import JsonFlag, write_json
from tracker.cli.run_arguments import (
    ArgsOption,
    ReasonOption,
    RunArgument,
    arguments,
    json_value,
    pairs,
    read,
    write_control,
)
from tracker.cli.settings import load_settings
from tracker.client import UNSET, ResetOptions, TrackerClient

StepArgument = Annotated[str, typer.Argument(help="Step id, as `runs show --json` tells it.")]


def register(commands: typer.Typer) -> None:
    """Add the commands to `flowtrail runs`."""
    for command in (rerun, reset, pause, unpause, pause_step, unpause_step, retry_step):
        commands.command()(command)
    commands.command("set-metadata")(set_metadata)


def rerun(
    run_id: RunArgument,
    input: Annotated[
        str | None, typer.Option(help="Another argument, as JSON; @FILE or @- to read it.")
    ] = None,
    args: ArgsOption = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same run, however often.")
    ] = None,
    reason: ReasonOption = None,
    json: JsonFlag = False,
) -> None:
    """Run a run again from its beginning and print the new run's id."""
    given: Any = UNSET if input is None else json_value("--input", read(input))
    with _client() as client:
        run = client.rerun(
            run_id,
            given,
            args=arguments(args) if args else None,
            idempotency_key=idempotency_key,
            reason=reason,
        )
    if json:
        write_json(run)
        return
    typer.echo(str(run.run_id))
    if not run.created:
        typer.echo("this run was there before", err=True)


def reset(
    run_id: RunArgument,
    step: Annotated[
        str | None, typer.Option(help="Step id; default: the step that failed last.")
    ] = None,
    event: Annotated[int | None, typer.Option(help="Event id of the history.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option(help="Only tell what would run again.")] = False,
    reason: ReasonOption = None,
    json: JsonFlag = False,
) -> None:
    """Let a run go on from an earlier point, in a new run, and print that run's id."""
    if step is not None and event is not None:
        raise typer.BadParameter("give --step or --event, not both")
    options: ResetOptions = {"dry_run": dry_run or None, "reason": reason}
    if step is not None:
        options |= {"to": "step", "step_id": step}
    if event is not None:
        options |= {"to": "event", "event_id": event}
    with _client() as client:
        answer = client.reset(run_id, **options)
    if json:
        write_json(answer)
        return
    if answer.new_run_id is not None:
        typer.echo(str(answer.new_run_id))
    what = ", ".join(answer.repeats) or "nothing"
    verb = "would run" if dry_run else "runs"
    typer.echo(
        f"goes on from event {answer.event_id}; of what had completed {verb} again: {what}",
        err=True,
    )


def pause(run_id: RunArgument, reason: ReasonOption = None, json: JsonFlag = False) -> None:
    """Let a run decide nothing until it is unpaused."""
    with _client() as client:
        write_control(client.pause(run_id, reason=reason), as_json=json)


def unpause(run_id: RunArgument, reason: ReasonOption = None, json: JsonFlag = False) -> None:
    """Let a paused run go on."""
    with _client() as client:
        write_control(client.unpause(run_id, reason=reason), as_json=json)


def pause_step(
    run_id: RunArgument, step_id: StepArgument, reason: ReasonOption = None, json: JsonFlag = False
) -> None:
    """Let no further attempt of an activity begin."""
    with _client() as client:
        write_control(client.pause_step(run_id, step_id, reason=reason), as_json=json)


def unpause_step(
    run_id: RunArgument,
    step_id: StepArgument,
    reset_attempts: Annotated[bool, typer.Option(help="Count them from 1 again.")] = False,
    reason: ReasonOption = None,
    json: JsonFlag = False,
) -> None:
    """Let a paused activity go on, at once."""
    with _client() as client:
        answer = client.unpause_step(run_id, step_id, reset_attempts=reset_attempts, reason=reason)
    write_control(answer, as_json=json)


def retry_step(
    run_id: RunArgument, step_id: StepArgument, reason: ReasonOption = None, json: JsonFlag = False
) -> None:
    """Try an activity that waits for its next attempt now."""
    with _client() as client:
        write_control(client.retry_step(run_id, step_id, reason=reason), as_json=json)


def set_metadata(
    run_id: RunArgument,
    metadata: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE…", help="The value is JSON where it can be read so."),
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Key to take away; repeatable.")] = None,
    reason: ReasonOption = None,
    json: JsonFlag = False,
) -> None:
    """Change a run's metadata; what is not named stays."""
    patch: dict[str, Any] = {key: _value(text) for key, text in pairs(metadata or [])}
    patch |= dict.fromkeys(remove or [])
    with _client() as client:
        run = client.patch_metadata(run_id, patch, reason=reason)
    write_json(run if json else run.metadata)


def _value(text: str) -> Any:
    try:
        return json_value("metadata", text)
    except typer.BadParameter:
        return text


def _client() -> TrackerClient:
    return load_settings().client()
