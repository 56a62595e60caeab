"""`flowtrail verify`: holds the tables against Temporal's histories and prints the differences."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracker.cli.exits import ExitCode
from tracker.cli.output import JsonFlag, progress, write_json, write_table
from tracker.cli.settings import load_settings
from tracker.cli.spans import past_moment, share
from tracker.core.ids import Ref
from tracker.core.ref_rules import RefRule
from tracker.store.database import Database
from tracker.store.recorded_runs import EARLIEST, RunChoice, count_runs
from tracker.temporal.ref_rules import RULES_FILE, history_rules, load_rules

if TYPE_CHECKING:
    from tracker.temporal.verify import RunDifferences, VerifyReport

SHOWN = 200
"""Lines of the table; JSON has them all."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=past_moment,
            metavar="WHEN",
            help="Leave out runs that closed before: a span, as 24h, or a date, as 2026-11-01.",
        ),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only this workflow type; repeatable.")
    ] = None,
    ref: Annotated[str | None, typer.Option(help="Only runs of this ref_type/ref_id.")] = None,
    sample: Annotated[
        float | None,
        typer.Option(parser=share, metavar="PART", help="Only a part of the runs, as 5%."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Correct what differs.")] = False,
    rules: Annotated[
        Path | None, typer.Option(help=f"File with [[refs]] tables; default: {RULES_FILE}, if any.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Hold the tables against Temporal's histories; exit code 1 if anything differs.

    Both ways: do the rows of each run say what its history says, and is every run that Temporal
    has on record? A difference counts only if it is still there ten seconds later. With --repair,
    rows are corrected from history, and only what stays wrong is exit code 1.
    """
    path = rules or Path(RULES_FILE)
    known = load_rules(path) if rules or path.exists() else ()
    chosen: dict[str, Any] = {
        "since": since or EARLIEST,
        "workflow_types": tuple(types or ()),
        "ref": None if ref is None else Ref.parse(ref),
        "share": 1.0 if sample is None else sample,
        "seed": secrets.randbits(31),
    }
    report = asyncio.run(_verify(chosen, known, repair=repair))
    if json:
        write_json(_facts(report))
    else:
        _print(report, repair=repair)
    if not report.is_true:
        raise typer.Exit(ExitCode.FAILED)


async def _verify(
    chosen: dict[str, Any], rules: tuple[RefRule, ...], *, repair: bool
) -> VerifyReport:
    from tracker.temporal.connection import connect  # temporalio: 0.3 s of every other command.
    from tracker.temporal.verify import Verification

    settings = load_settings()
    client = await connect(settings.data_converter)
    choice = RunChoice(client.namespace, **chosen)
    async with Database(settings.database_options(), max_connections=2) as database:
        with progress("Comparing runs", await count_runs(database, choice)) as advance:
            verification = Verification(
                client,
                database,
                choice,
                policy=settings.policy(),
                ref_rules=history_rules(rules),
                repair=repair,
                on_progress=advance,
            )
            return await verification.run()


def _print(report: VerifyReport, *, repair: bool) -> None:
    lines = [
        (
            run.run_id or run.temporal_run_id,
            run.workflow_type,
            run.ref or run.workflow_id,
            found.row,
            f"{found.table}.{found.column}" if found.column != "*" else found.table,
            "(none)" if found.stored is None else found.stored,
            "(none)" if found.history is None else found.history,
            *(["yes" if run.repaired else "no"] if repair else []),
        )
        for run in report.found
        for found in run.differences
    ]
    titles = ["RUN", "WORKFLOW TYPE", "REF", "ROW", "FIELD", "STORED", "HISTORY"]
    if lines:
        write_table([*titles, *(["REPAIRED"] if repair else [])], lines[:SHOWN], empty="")
    if len(lines) > SHOWN:
        typer.echo(f"… and {len(lines) - SHOWN} more; --json prints them all")
    for line in _summary(report):
        typer.echo(line)


def _summary(report: VerifyReport) -> list[str]:
    lines = [
        f"{report.runs} runs compared with {report.history_events} history events, "
        f"{report.executions} of Temporal's runs looked up: "
        f"{report.differences} differences in {report.different} runs"
        + (f", {report.repaired} runs repaired" if report.repaired else "")
    ]
    if report.gone:
        lines.append(f"{report.gone} runs were confirmed before their history was deleted")
    if report.unverifiable:
        lines.append(
            f"{report.unverifiable} runs were never confirmed and their history is gone: "
            "keep the reconciler running, or lengthen the namespace's retention"
        )
    if report.unrecorded_before:
        lines.append(
            f"{report.unrecorded_before} runs are from before the first one on record: "
            "`flowtrail backfill` brings them in"
        )
    return lines


def _facts(report: VerifyReport) -> dict[str, Any]:
    return {
        "runs": report.runs,
        "history_events": report.history_events,
        "executions": report.executions,
        "gone": report.gone,
        "unverifiable": report.unverifiable,
        "unrecorded_before": report.unrecorded_before,
        "differences": report.differences,
        "different_runs": report.different,
        "repaired_runs": report.repaired,
        "found": [_run_facts(run) for run in report.found],
    }


def _run_facts(run: RunDifferences) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "temporal_run_id": run.temporal_run_id,
        "workflow_type": run.workflow_type,
        "workflow_id": run.workflow_id,
        "ref": None if run.ref is None else str(run.ref),
        "repaired": run.repaired,
        "differences": [
            {
                "table": found.table,
                "row": found.row,
                "column": found.column,
                "stored": found.stored,
                "history": found.history,
            }
            for found in run.differences
        ],
    }
