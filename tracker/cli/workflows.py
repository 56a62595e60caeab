"""`flowtrail workflows|types|graph`: which workflows there are, and what their steps do."""

from __future__ import annotations

from typing import Annotated

import typer

from tracker.cli.output import JsonFlag, write_json, write_table
from tracker.cli.run_arguments import RefOption
from tracker.cli.search import HoursOption, both
from tracker.cli.settings import load_settings
from tracker.core.ids import Ref

WEEK = 168.0
"""Hours."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(workflows)
    app.command()(types)
    app.command()(graph)


def workflows(
    workflow_type: Annotated[
        list[str] | None, typer.Option("--type", help="Workflow type; repeatable.")
    ] = None,
    ref: RefOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    json: JsonFlag = False,
) -> None:
    """List workflows, a type for one business object each, newest first."""
    parsed = None if ref is None else Ref.parse(ref)
    with load_settings().client() as client:
        page = client.list_workflows(
            workflow_type=workflow_type or (),
            ref_type=None if parsed is None else parsed.ref_type,
            ref_id=None if parsed is None else parsed.ref_id,
            limit=limit,
        )
    if json:
        write_json(page)
        return
    write_table(
        ("WORKFLOW TYPE", "REF", "RUNS", "LATEST", "SINCE"),
        (
            (
                one.workflow_type,
                None if one.ref_type is None else f"{one.ref_type}/{one.ref_id}",
                one.runs_count,
                one.latest_status,
                one.latest_ordered_at,
            )
            for one in page.workflows
        ),
        "no workflows",
    )
    if page.next_cursor is not None:
        typer.echo(f"the first {limit}; there are more", err=True)


def types(json: JsonFlag = False) -> None:
    """List workflow types: those that workers announced, and those seen in runs."""
    with load_settings().client() as client:
        found = client.workflow_types()
    if json:
        write_json({"workflow_types": [one.model_dump(mode="json") for one in found]})
        return
    write_table(
        ("TYPE", "ALIASES", "TASK QUEUE", "ANNOUNCED", "FIRST SEEN"),
        (
            (one.name, ", ".join(one.aliases), one.task_queue, one.registered_at, one.first_seen_at)
            for one in found
        ),
        "no workflow types",
    )


def graph(
    workflow_type: Annotated[str, typer.Argument(help="Name of the type.")],
    hours: HoursOption = WEEK,
    json: JsonFlag = False,
) -> None:
    """Show in which order the steps of a type follow each other, with waits and failures."""
    with load_settings().client() as client:
        found = client.workflow_graph(workflow_type, window=hours * 3600)
    if json:
        write_json(found)
        return
    typer.echo(f"{found.runs} runs of {found.workflow_type}")
    write_table(
        ("FROM", "TO", "TIMES", "FAILED", "WAIT P50", "WAIT P95"),
        (
            (
                one.source or "(start)",
                one.target or "(end)",
                one.transitions,
                f"{one.failure_rate:.1%}",
                *both(one.wait),
            )
            for one in found.edges
        ),
        "no steps",
    )
