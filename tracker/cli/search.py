"""`flowtrail failing|failures|times`: what is failing, of what, and how long things take."""

from __future__ import annotations

from typing import Annotated

import typer

from tracker.cli.output import JsonFlag, write_json, write_table
from tracker.cli.settings import load_settings
from tracker.models.search import Spread

TypeOption = Annotated[str | None, typer.Option("--type", help="Workflow type.")]
NameOption = Annotated[str | None, typer.Option("--step", help="Name of the step.")]
HoursOption = Annotated[float, typer.Option(min=0.01, max=2160, help="Hours back.")]
TextOption = Annotated[str | None, typer.Option("--text", help="Words of the error message.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(failing)
    app.command()(failures)
    app.command()(times)


def failing(
    workflow_type: TypeOption = None,
    name: NameOption = None,
    error_type: Annotated[str | None, typer.Option("--error", help="Error type.")] = None,
    error_text: TextOption = None,
    failure: Annotated[str | None, typer.Option(help="Group that `failures` told.")] = None,
    min_attempts: Annotated[int | None, typer.Option(min=1)] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable. Default: scheduled and started, which are being retried."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    json: JsonFlag = False,
) -> None:
    """List steps that fail and are tried again; --status failed: that failed for good."""
    with load_settings().client() as client:
        page = client.failed_steps(
            workflow_type=workflow_type,
            name=name,
            error_type=error_type,
            error_text=error_text,
            failure=failure,
            min_attempts=min_attempts,
            status=status or ["scheduled", "started"],
            limit=limit,
        )
    if json:
        write_json(page)
        return
    write_table(
        ("run", "workflow type", "step", "status", "attempts", "failed at", "error", "message"),
        (
            (
                step.run_id or step.temporal_run_id,
                step.workflow_type,
                step.name,
                step.status,
                step.attempts,
                step.failed_at,
                step.error_type,
                step.error_message,
            )
            for step in page.steps
        ),
        "nothing is failing",
    )
    if page.next_cursor is not None:
        typer.echo(f"the first {limit}; there are more", err=True)


def failures(
    workflow_type: TypeOption = None,
    name: NameOption = None,
    build_id: Annotated[str | None, typer.Option()] = None,
    error_text: TextOption = None,
    hours: HoursOption = 24,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    json: JsonFlag = False,
) -> None:
    """Show what steps fail of, the most frequent first."""
    with load_settings().client() as client:
        found = client.failures(
            window=hours * 3600,
            workflow_type=workflow_type,
            name=name,
            build_id=build_id,
            error_text=error_text,
            limit=limit,
        )
    if json:
        write_json(found)
        return
    write_table(
        ("failure", "step", "error", "message", "steps", "failed", "retrying", "last"),
        (
            (g.failure, g.name, g.error_type, g.message, g.steps, g.failed, g.retrying, g.failed_at)
            for g in found.groups
        ),
        "nothing failed",
    )
    if found.truncated:
        typer.echo(f"of the latest {found.sampled} failed steps, since {found.since}", err=True)


def times(
    workflow_type: TypeOption = None, hours: HoursOption = 24, json: JsonFlag = False
) -> None:
    """Show how many runs ended, how many failed, and how long runs and steps take."""
    with load_settings().client() as client:
        stats = client.workflow_stats(window=hours * 3600, workflow_type=workflow_type)
    if json:
        write_json(stats)
        return
    write_table(
        ("workflow type", "runs", "failed", "p50", "p95"),
        (
            (t.workflow_type, t.runs, _share(t.failure_rate), *both(t.duration))
            for t in stats.workflow_types
        ),
        "no run ended",
    )
    if stats.steps:
        typer.echo()
        write_table(
            ("workflow type", "step", "failed", "p50", "p95", "queue", "execution", "backoff"),
            (
                (
                    step.workflow_type,
                    step.name,
                    _share(step.failure_rate),
                    *both(step.duration),
                    *(_seconds(part.p95) for part in (step.queue, step.execution, step.backoff)),
                )
                for step in stats.steps
            ),
            "",
        )
    if stats.truncated:
        typer.echo(f"of the latest {stats.sampled} runs, since {stats.since}", err=True)


def both(spread: Spread) -> tuple[str, str]:
    """The middle and the slow end of a spread, as they are shown."""
    return _seconds(spread.p50), _seconds(spread.p95)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f} s"


def _share(rate: float) -> str:
    return f"{rate:.1%}"
