"""All commands in one Typer app; each module brings its own."""

from __future__ import annotations

from typing import Annotated

import typer

from tracker import __version__
from tracker.cli import (
    backfill,
    beside,
    bulk,
    doctor,
    keys,
    operations,
    outbox,
    payloads,
    refs,
    repair,
    retention,
    runs,
    search,
    setup,
    stats,
    verify,
    workflows,
)
from tracker.cli.exits import EXIT_CODES_HELP, ReportingGroup


def build_app() -> typer.Typer:
    """The app, with the commands that are at hand here."""
    app = typer.Typer(
        name="flowtrail",
        cls=ReportingGroup,
        help="Tracks Temporal workflows in your Postgres, by business reference.",
        epilog=EXIT_CODES_HELP,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_global_options)
    beside.register(app)
    setup.register(app)
    doctor.register(app)
    backfill.register(app)
    repair.register(app)
    retention.register(app)
    stats.register(app)
    search.register(app)
    operations.register(app)
    workflows.register(app)
    verify.register(app)
    app.add_typer(runs.commands, name="runs")
    app.add_typer(bulk.commands, name="bulk")
    app.add_typer(refs.commands, name="refs")
    app.add_typer(outbox.commands, name="outbox")
    app.add_typer(keys.commands, name="keys")
    app.add_typer(payloads.commands, name="payloads")
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"flowtrail {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the command; `_version` does the work."""
