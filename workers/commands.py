"""The commands of the application that start workers: `flowtrail worker` and `flowtrail dev`."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from tracker.errors import TrackerError


def register(app: typer.Typer) -> None:
    """Add the commands to the `flowtrail` program."""
    app.command("worker")(worker)
    app.command("dev")(dev)


def worker() -> None:
    """Run a worker for the example workflows until SIGTERM or Ctrl-C."""
    from tracker.cli.environment import load  # Other commands need no temporalio.
    from tracker.cli.logs import configure
    from workers.main import run
    from workers.settings import WorkerSettings

    settings = load(WorkerSettings)
    configure(settings.log_format)
    asyncio.run(run(settings))


def dev(
    once: Annotated[
        bool, typer.Option("--once", help="Run the example job, print its answer, stop.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Run the example job, verify all that is on record, stop."),
    ] = False,
) -> None:
    """Start everything on this machine, run the example job, stay up until Ctrl-C."""
    from workers.dev import DevFailed, run_dev

    logging.basicConfig(level=logging.WARNING)
    try:
        asyncio.run(run_dev(once=once, verify=verify))
    except (DevFailed, TrackerError) as error:
        typer.secho(f"flowtrail dev: {error}", fg="red", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
