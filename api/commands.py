"""The command of the application that serves HTTP: `flowtrail api`."""

from __future__ import annotations

import typer

from tracker.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command to the `flowtrail` program."""
    app.command("api")(api)


def api(
    host: str | None = typer.Option(None, help="Address to listen on. [FLOWTRAIL_API_HOST]"),
    port: int | None = typer.Option(None, help="Port; 0: any free one. [FLOWTRAIL_API_PORT]"),
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C, then let open requests finish."""
    from api.serving import serve  # Other commands need no web server.
    from api.settings import load_settings
    from tracker.cli.logs import configure

    given = {"api_host": host, "api_port": port}
    settings = load_settings(**{name: v for name, v in given.items() if v is not None})
    # One line per request is ours (`api.middleware`), with id and duration.
    configure(settings.log_format, quiet=("uvicorn.access", "httpx", "httpcore"))
    if not serve(settings):
        raise ConfigurationError(
            f"the API could not start on {settings.api_host}:{settings.api_port}; its log says why"
        )
