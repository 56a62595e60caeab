"""`flowtrail bulk`: one action on every run of a filter, through the API."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer

from tracker.cli.output import JsonFlag, progress, took, write_fields, write_json, write_table
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
    WaitingOption,
    arguments,
    grouped,
    utc,
)
from tracker.cli.run_page import write_page
from tracker.cli.settings import load_settings
from tracker.client import BulkOptions, RunFilters, TrackerClient
from tracker.core.status import ENDED_BULKS, BulkAction
from tracker.models.control import BulkRead
from tracker.models.wire import RunPage

commands = typer.Typer(no_args_is_help=True, help="One action on every run of a filter.")

BulkArgument = Annotated[str, typer.Argument(help="Id of the bulk action.")]
POLL_SECONDS = 1.0


@commands.command()
def start(
    action: Annotated[BulkAction, typer.Argument()],
    ref: RefOption = None,
    workflow_type: Annotated[
        list[str] | None, typer.Option("--type", help="Repeatable: any of them.")
    ] = None,
    status: Annotated[list[str] | None, typer.Option(help="Repeatable: any of them.")] = None,
    metadata: MetadataOption = None,
    task_queue: Annotated[str | None, typer.Option()] = None,
    started_after: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    started_before: Annotated[datetime | None, typer.Option(help="UTC.")] = None,
    build_id: BuildOption = None,
    parent: ParentOption = None,
    roots_only: RootsOption = False,
    failure: FailureOption = None,
    failed_step: FailedStepOption = None,
    retrying: RetryingOption = False,
    waiting_on: WaitingOption = None,
    signal_name: Annotated[str | None, typer.Option("--signal", help="Name of the signal.")] = None,
    args: ArgsOption = None,
    rate: Annotated[float | None, typer.Option(help="Runs a second, at most. Default: 20.")] = None,
    max_runs: Annotated[int | None, typer.Option(help="Refuse more. Default: 10000.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="One key, one action.")] = None,
    reason: ReasonOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only count.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for its end; exit code 1 on errors.")] = False,
    json: JsonFlag = False,
) -> None:
    """Cancel, terminate, signal, rerun or reset all runs of a filter; without --yes only count."""
    filters: RunFilters = {
        "ref": ref,
        "workflow_type": workflow_type,
        "status": status,
        "metadata": grouped(metadata),
        "task_queue": task_queue,
        "started_after": utc(started_after),
        "started_before": utc(started_before),
        "build_id": build_id,
        "parent": parent,
        "roots_only": roots_only or None,
        "failure": failure,
        "failed_step": failed_step,
        "retrying": retrying or None,
        "waiting_on": waiting_on,
    }
    options: BulkOptions = {
        "signal_name": signal_name,
        "signal_args": arguments(args) if args else None,
        "rate": rate,
        "max_runs": max_runs,
        "idempotency_key": idempotency_key,
        "reason": reason,
    }
    with _client() as client:
        if not yes:
            _preview(client, action, filters, options, as_json=json)
            return
        bulk = client.start_bulk(action, filters, **options)
        if wait:
            bulk = _wait(client, bulk)
    _write(bulk, as_json=json)
    if wait and (bulk.failed or bulk.pending):
        raise typer.Exit(1)


@commands.command("list")
def list_(limit: Annotated[int, typer.Option(min=1, max=500)] = 20, json: JsonFlag = False) -> None:
    """List bulk actions, newest first."""
    with _client() as client:
        page = client.list_bulks(limit=limit)
    if json:
        write_json(page)
        return
    write_table(
        ("bulk", "action", "status", "done", "failed", "pending", "by", "created"),
        (
            (b.bulk_id, b.action, b.status, b.done, b.failed, b.pending, b.actor, b.created_at)
            for b in page.bulks
        ),
        "no bulk actions",
    )


@commands.command()
def show(bulk_id: BulkArgument, json: JsonFlag = False) -> None:
    """Show a bulk action and how far it is."""
    with _client() as client:
        _write(client.get_bulk(bulk_id), as_json=json)


@commands.command()
def items(
    bulk_id: BulkArgument,
    status: Annotated[str | None, typer.Option(help="pending, done or failed.")] = None,
    json: JsonFlag = False,
) -> None:
    """List the runs of a bulk action and what became of each."""
    with _client() as client:
        found = list(client.iter_bulk_items(bulk_id, status=status))
    if json:
        write_json(found)
        return
    write_table(
        ("run", "status", "tries", "new run", "error", "message"),
        ((i.run_id, i.status, i.tries, i.new_run_id, i.error_code, i.error_message) for i in found),
        "no runs",
    )


@commands.command()
def cancel(bulk_id: BulkArgument, reason: ReasonOption = None, json: JsonFlag = False) -> None:
    """Stop a bulk action; what it has dealt with stays so."""
    with _client() as client:
        _write(client.cancel_bulk(bulk_id, reason=reason), as_json=json)


def _preview(
    client: TrackerClient,
    action: BulkAction,
    filters: RunFilters,
    options: BulkOptions,
    *,
    as_json: bool,
) -> None:
    preview = client.preview_bulk(action, filters, **options)
    if as_json:
        write_json(preview)
        return
    write_page(RunPage(runs=preview.runs))
    more = "more than " if preview.exceeds_max_runs else ""
    count = preview.count - 1 if preview.exceeds_max_runs else preview.count
    typer.echo(f"{action} would take {more}{count} run(s); nothing was done: add --yes", err=True)


def _wait(client: TrackerClient, bulk: BulkRead) -> BulkRead:
    with progress(str(bulk.action), bulk.total) as tell:
        while bulk.status not in ENDED_BULKS:
            time.sleep(POLL_SECONDS)
            bulk = client.get_bulk(bulk.bulk_id)
            tell(bulk.done + bulk.failed)
    return bulk


def _write(bulk: BulkRead, *, as_json: bool) -> None:
    if as_json:
        write_json(bulk)
        return
    write_fields(
        (
            ("bulk", bulk.bulk_id),
            ("action", bulk.action),
            ("filter", bulk.filter),
            ("status", bulk.status),
            ("error", bulk.error),
            ("runs", bulk.total),
            ("done", bulk.done),
            ("failed", bulk.failed),
            ("pending", bulk.pending),
            ("by", bulk.actor),
            ("reason", bulk.reason),
            ("took", took(bulk.created_at, bulk.finished_at)),
        )
    )


def _client() -> TrackerClient:
    return load_settings().client()
