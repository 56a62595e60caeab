"""`flowtrail runs`: start, read and control runs through the API, with the client SDK."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli.output import JsonFlag, write_json
from tracker.cli.run_page import write_page, write_run
from tracker.cli.settings import load_settings
from tracker.client import UNSET, RunFilters, StartOptions, TrackerClient
from tracker.models.wire import ControlAnswer

commands = typer.Typer(no_args_is_help=True, help="Start, list, show and control runs.")

RunArgument = Annotated[str, typer.Argument(help="Run id, ours or Temporal's.")]
ReasonOption = Annotated[str | None, typer.Option(help="Goes into the audit.")]
RefOption = Annotated[str | None, typer.Option(help="Business object, as ref_type/ref_id.")]
ArgsOption = Annotated[
    list[str] | None, typer.Option("--arg", help="One argument, as JSON; repeatable.")
]
MetadataOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable; the value is text.")
]


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
        "args": _arguments(args) if args else None,
        "ref": ref,
        "metadata": dict(_pairs(metadata)) if metadata else None,
        "idempotency_key": idempotency_key,
        "task_queue": task_queue,
        "workflow_id": workflow_id,
        "start_delay": start_delay,
        "execution_timeout": execution_timeout,
        "run_timeout": run_timeout,
    }
    given = UNSET if input is None else _json("--input", _read(input))
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
        "metadata": _grouped(metadata),
        "workflow_id": workflow_id,
        "task_queue": task_queue,
        "started_after": _utc(started_after),
        "started_before": _utc(started_before),
        "finished_after": _utc(finished_after),
        "finished_before": _utc(finished_before),
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
        _write_control(client.cancel(run_id, reason=reason), as_json=json)


@commands.command()
def terminate(run_id: RunArgument, reason: ReasonOption = None, json: JsonFlag = False) -> None:
    """End a run without asking it."""
    with _client() as client:
        _write_control(client.terminate(run_id, reason=reason), as_json=json)


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
        answer = client.signal(run_id, name, *_arguments(args or []), reason=reason)
    _write_control(answer, as_json=json)


def _client() -> TrackerClient:
    return load_settings().client()


def _write_control(answer: ControlAnswer, *, as_json: bool) -> None:
    if as_json:
        write_json(answer)
        return
    before = " before it started" if answer.canceled_before_start else ""
    typer.echo(f"{answer.action}: {answer.run_id}{before}")


def _arguments(args: Sequence[str]) -> list[Any]:
    return [_json("--arg", text) for text in args]


def _read(text: str) -> str:
    if not text.startswith("@"):
        return text
    if text == "@-":
        return sys.stdin.read()
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--input: {error}") from error


def _json(option: str, text: str) -> Any:
    try:
        return jsonlib.loads(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"""{option} is not JSON ({error}); text needs quotes: '"text"'"""
        ) from error


def _pairs(given: Sequence[str]) -> list[tuple[str, str]]:
    split = [pair.partition("=") for pair in given]
    if not all(key and equals for key, equals, _ in split):
        raise typer.BadParameter("--metadata: expected KEY=VALUE")
    return [(key, value) for key, _, value in split]


def _grouped(given: Sequence[str] | None) -> dict[str, list[str]] | None:
    grouped: dict[str, list[str]] = {}
    for key, value in _pairs(given or []):
        grouped.setdefault(key, []).append(value)
    return grouped or None


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
