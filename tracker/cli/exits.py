"""Exit codes, and the one place where errors become a line on stderr."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import typer
from typer.core import TyperGroup

from tracker.cli.output import one_line
from tracker.errors import (
    ApiUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    InvalidRequest,
    TemporalUnavailable,
    TrackerError,
)


class ExitCode(IntEnum):
    """What a script can rely on."""

    OK = 0
    FAILED = 1
    """The command was understood and carried out, and the answer is no."""
    USAGE = 2
    """Wrong arguments or settings."""
    NOT_REACHABLE = 3
    """API, database or Temporal is away; the same command may succeed later."""


EXIT_CODES_HELP = (
    "Exit codes: 0 done, 1 failed, 2 wrong arguments or settings, "
    "3 API, database or Temporal not reachable."
)


class ReportingGroup(TyperGroup):
    """Commands whose errors end as one line that says what to do, and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except TrackerError as error:
            typer.echo(f"flowtrail: {_told(error)}", err=True)
            raise typer.Exit(exit_code(error)) from error


def exit_code(error: TrackerError) -> ExitCode:
    """The exit code for an error."""
    if isinstance(error, ApiUnavailable | DatabaseUnavailable | TemporalUnavailable):
        return ExitCode.NOT_REACHABLE
    refused_here = type(error) is InvalidRequest and "http_status" not in error.details
    if refused_here or isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    return ExitCode.FAILED


def _told(error: TrackerError) -> str:
    cause = error.details.get("cause")
    return one_line(f"{error.message} ({cause})" if cause else error.message)
