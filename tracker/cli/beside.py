"""The commands that run the application: `dev`, `api`, `worker`.

They are defined in `api/` and `workers/`, which stand beside the library in a checkout and in the
image, and are not in the wheel: there, the commands say where they can be had.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import typer

import tracker
from tracker import __version__
from tracker.errors import ConfigurationError

PROVIDERS = ("api.commands", "workers.commands")
"""Modules with `register(app: typer.Typer) -> None`."""
COMMANDS = {
    "dev": "Start Postgres, Temporal, worker and API on this machine.",
    "api": "Serve the HTTP API.",
    "worker": "Run the worker of the example workflows.",
}
_ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Add the application's commands.

    Raises:
        ConfigurationError: Another package shadows one of the application's.
    """
    root = application_root()
    if root is None:
        for name, summary in COMMANDS.items():
            _register_absent(app, name, summary)
        return
    for provider in PROVIDERS:
        module = importlib.import_module(provider)
        if not Path(module.__file__ or "").resolve().is_relative_to(root):
            raise ConfigurationError(
                f"{provider} was found at {module.__file__}, not in {root}; another package of "
                "that name comes first on the Python path"
            )
        module.register(app)


def application_root() -> Path | None:
    """The checkout or image folder that the library runs from; None for an installed wheel."""
    root = Path(tracker.__file__).resolve().parents[1]
    # Not by the folders alone: in site-packages they would be other people's.
    parts = ("pyproject.toml", "api/commands.py", "workers/commands.py")
    return root if all((root / part).is_file() for part in parts) else None


def _register_absent(app: typer.Typer, name: str, summary: str) -> None:
    @app.command(name, help=summary, context_settings=_ANY_ARGUMENTS)
    def absent() -> None:  # pyright: ignore[reportUnusedFunction]
        raise ConfigurationError(
            f"`flowtrail {name}` is not part of the library: run it from a checkout of Flowtrail, "
            f"or use the image flowtrail:{__version__} (docker-compose.yml shows how)"
        )
