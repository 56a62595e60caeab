"""The command `flowtrail`. Importing this stays possible with the base requirements alone, so that
the installed command can say what is missing instead of failing with a traceback."""

from __future__ import annotations

import sys

from tracker.errors import TrackerError

_PARTS_OF_THE_PROJECT = ("tracker", "api", "workers", "workflows", "activities")


def main() -> None:
    """Entry point of the console script."""
    try:
        from tracker.cli.app import build_app

        app = build_app()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _PARTS_OF_THE_PROJECT:
            raise
        sys.exit(_complaint(f"{missing} is not installed; run: pip install 'flowtrail[server]'"))
    except TrackerError as error:
        sys.exit(_complaint(error.message))
    app()


def _complaint(message: str) -> int:
    sys.stderr.write(f"flowtrail: {message}\n")
    return 2
