"""`flowtrail backfill`: brings in runs from before the tracker was installed, or of other SDKs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.cli.exits import ExitCode
from tracker.cli.output import JsonFlag, progress, write_json, write_table
from tracker.cli.settings import load_settings
from tracker.core.ref_rules import RefRule
from tracker.errors import InvalidRequest
from tracker.store.database import Database
from tracker.temporal.ref_rules import RULES_FILE, history_rules, load_rules

if TYPE_CHECKING:
    from tracker.temporal.backfill import BackfillReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("backfill")(backfill)


def backfill(
    query: Annotated[
        str | None,
        typer.Option(help="Which runs, in Temporal's list filter language; default: all."),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(help="History dump (JSON or protobuf), or a folder of them; repeatable."),
    ] = None,
    workflow_id: Annotated[
        str | None, typer.Option(help="Of a dump that does not tell its workflow id.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Runs to look at, newest first.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Histories fetched at once.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    rules: Annotated[
        Path | None, typer.Option(help=f"File with [[refs]] tables; default: {RULES_FILE}, if any.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Bring in runs that nobody recorded: old ones, and those of other SDKs.

    Safe to repeat and to cut off: what is on record is skipped, so the same command goes on. Values
    are kept as FLOWTRAIL_PAYLOAD_DEFAULT says; refs come from memos and from the rules.
    """
    if file and (query is not None or limit is not None):
        raise InvalidRequest("--file reads files; --query and --limit ask Temporal: give one kind")
    path = rules or Path(RULES_FILE)
    known = load_rules(path) if rules or path.exists() else ()
    report = asyncio.run(
        _backfill(
            known,
            query=query or "",
            files=file or [],
            workflow_id=workflow_id,
            limit=limit,
            concurrency=concurrency,
            dry_run=dry_run,
        )
    )
    if json:
        write_json(report)
    else:
        _print(report, dry_run=dry_run)
    if report.failed:
        raise typer.Exit(ExitCode.FAILED)


async def _backfill(
    rules: tuple[RefRule, ...],
    *,
    query: str,
    files: list[Path],
    workflow_id: str | None,
    limit: int | None,
    concurrency: int,
    dry_run: bool,
) -> BackfillReport:
    from tracker.temporal.backfill import Backfill
    from tracker.temporal.connection import connect  # temporalio: 0.3 s of every other command.
    from tracker.temporal.history_files import history_paths
    from tracker.temporal.projector import Projector

    settings = load_settings()
    client = await connect(settings.data_converter)
    policy = settings.policy()
    async with (
        Database(settings.database_options(), max_connections=2) as database,
        Projector(
            client,
            database,
            policy=policy,
            ref_rules=history_rules(rules),
            announce=False,
        ) as projector,
    ):
        with progress("Reading histories") as advance:
            backfill = Backfill(
                client,
                database,
                projector,
                concurrency=concurrency,
                dry_run=dry_run,
                on_progress=lambda report: advance(report.seen),
            )
            if files:
                paths = list(history_paths(files))
                return await backfill.from_files(paths, workflow_id=workflow_id)
            return await backfill.from_temporal(query, limit)


def _print(report: BackfillReport, *, dry_run: bool) -> None:
    if report.reasons:
        write_table(["FAILED", "WHY"], report.reasons, empty="")
    missing = report.seen - report.there - report.excluded
    done = (
        f"{missing} to be brought in"
        if dry_run
        else f"{report.projected} brought in with {report.history_events} history events"
    )
    rest = {
        "already on record": report.there,
        "of types that are not tracked": report.excluded,
        "without a history any more": report.vanished,
        "failed": report.failed,
    }
    told = [f"{number} {what}" for what, number in rest.items() if number]
    typer.echo(f"{report.seen} seen: " + ", ".join([done, *told]))
