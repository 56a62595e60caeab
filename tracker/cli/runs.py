"""`flowtrail runs`: start, read and control runs through the API, with the client SDK."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from tracker.cli import run_changes, run_details, run_watch
from tracker.cli.output import JsonFlag, write_json
from tracker.cli.run_arguments import (
    ArgsOption,
    BuildOption,
    FailedStepOption,
    FailureOption,
    MetadataOption,
    ParentOption,
    ReasonOption,
    RefOption,
    RetryingOption,
    RootsOption,
    RunArgument,
    WaitingOption,
    arguments,
    grouped,
    json_value,
    pairs,
    read,
    utc,
    write_control,
)
from tracker.cli.run_page import write_page, write_run
from tracker.cli.settings import load_settings
from tracker.client import UNSET, RunFilters, StartOptions, TrackerClient

commands = typer.Typer(no_args_is_help=True, help="Start, list, show and control runs.")


@commands.command()
def start(
    workflow_type: Annotated[str, typer.Argument(help="Name or alias.")],
    input: Annotated[
        str | None, typer.Option(help="The single argument, as JSON; @FILE or @- to read it.")
    ] = None,
    args: ArgsOption = None,
    ref: RefOption = None,
    metadata: MetadataOption = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same run, however often.")
    ] = None,
    task_queue: Annotated[
        str | None, typer.Option(help="For a type that no worker announced.")
    ] = None,
    workflow_id: Annotated[str | None, typer.Option(help="Default: TYPE/RUN.")] = None,
    start_delay: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    execution_timeout: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    run_timeout: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    json: JsonFlag = False,
) -> None:
    """Start a workflow and print the run's id."""
    options: StartOptions = {
        "args": arguments(args) if args else None,
        "ref": ref,
        "metadata": dict(pairs(metadata)) if metadata else None,
        "idempotency_key": idempotency_key,
        "task_queue": task_queue,
        "workflow_id": workflow_id,
        "start_delay": start_delay,
        "execution_timeout": execution_timeout,
        "run_timeout": run_timeout,
    }
    given = UNSET if input is None else json_value("--input", read(input))
    with _client() as client:
        run = client.start_workflow(workflow_type, given, **options)
    if json:
        write_json(run)
        return
    typer.echo(str(run.run_id))
    if not run.created:
        typer.echo("this run was there before", err=True)


@commands.command("list")
def list_(
    ref: RefOption = None,
    workflow_type: Annotated[
        list[str] | None, typer.Option("--type", help="Repeatable: any of them.")
    ] = None,
    status: Annotated[list[str] | None, typer.Option(help="Repeatable: any of them.")] = None,
    metadata: MetadataOption = None,
    workflow_id: Annotated[str | None, typer.Option()] = None,
    task_queue: Annotated[str | None, typer.Option()] = None,
    started_after: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    started_before: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    finished_after: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    finished_before: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    build_id: BuildOption = None,
    parent: ParentOption = None,
    roots_only: RootsOption = False,
    failure: FailureOption = None,
    failed_step: FailedStepOption = None,
    retrying: RetryingOption = False,
    waiting_on: WaitingOption = None,
    min_seconds: Annotated[
        float | None, typer.Option(min=0, help="Ended runs that took longer.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Ended runs that took less.")
    ] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    json: JsonFlag = False,
) -> None:
    """List runs, newest first; all filters must hold."""
    filters: RunFilters = {
        "ref": ref,
        "workflow_type": workflow_type,
        "status": status,
        "metadata": grouped(metadata),
        "workflow_id": workflow_id,
        "task_queue": task_queue,
        "started_after": utc(started_after),
        "started_before": utc(started_before),
        "finished_after": utc(finished_after),
        "finished_before": utc(finished_before),
        "build_id": build_id,
        "parent": parent,
        "roots_only": roots_only or None,
        "failure": failure,
        "failed_step": failed_step,
        "retrying": retrying or None,
        "waiting_on": waiting_on,
        "min_duration": min_seconds,
        "max_duration": max_seconds,
        "order": "oldest" if oldest else None,
        "limit": limit,
        "cursor": cursor,
    }
    with _client() as client:
        page = client.list_runs(**filters)
    if json:
        write_json(page)
    else:
        write_page(page)


@commands.command()
def show(run_id: RunArgument, json: JsonFlag = False) -> None:
    """Show a run with its steps and attempts."""
    with _client() as client:
        run = client.get_run(run_id)
    if json:
        write_json(run)
    else:
        write_run(run)


@commands.command()
def result(
    run_id: RunArgument,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait; default: for ever.")
    ] = None,
) -> None:
    """Wait for a run's end and print its output as JSON; exit code 1 if it has none."""
    with _client() as client:
        write_json(client.result(run_id, timeout=timeout))


@commands.command()
def cancel(run_id: RunArgument, reason: ReasonOption = None, json: JsonFlag = False) -> None:
    """Ask a run to end."""
    with _client() as client:
        write_control(client.cancel(run_id, reason=reason), as_json=json)


@commands.command()
def terminate(run_id: RunArgument, reason: ReasonOption = None, json: JsonFlag = False) -> None:
    """End a run without asking it."""
    with _client() as client:
        write_control(client.terminate(run_id, reason=reason), as_json=json)


@commands.command()
def signal(
    run_id: RunArgument,
    name: Annotated[str, typer.Argument(help="Name of the signal.")],
    args: ArgsOption = None,
    reason: ReasonOption = None,
    json: JsonFlag = False,
) -> None:
    """Send a signal to a run."""
    with _client() as client:
        answer = client.signal(run_id, name, *arguments(args or []), reason=reason)
    write_control(answer, as_json=json)


@commands.command()
def query(
    run_id: RunArgument,
    name: Annotated[str, typer.Argument(help="Name of the query.")],
    args: ArgsOption = None,
) -> None:
    """Ask a run's code a question and print the answer as JSON; needs a worker."""
    with _client() as client:
        write_json(client.query(run_id, name, *arguments(args or [])))


@commands.command()
def update(
    run_id: RunArgument,
    name: Annotated[str, typer.Argument(help="Name of the update.")],
    args: ArgsOption = None,
    update_id: Annotated[
        str | None, typer.Option(help="The same id is the same update, however often.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, max=60, help="Seconds for its result.")] = 30,
    reason: ReasonOption = None,
) -> None:
    """Send an update to a run and print what came of it as JSON."""
    with _client() as client:
        write_json(
            client.update(
                run_id,
                name,
                *arguments(args or []),
                update_id=update_id,
                wait=wait,
                reason=reason,
            )
        )


run_changes.register(commands)
run_details.register(commands)
run_watch.register(commands)


def _client() -> TrackerClient:
    return load_settings().client()
