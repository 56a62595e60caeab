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
    from api.logging import configure  # Other commands need no web server.
    from api.serving import serve
    from api.settings import load_settings

    given = {"api_host": host, "api_port": port}
    settings = load_settings(**{name: v for name, v in given.items() if v is not None})
    configure(settings.log_format)
    if not serve(settings):
        raise ConfigurationError(
            f"the API could not start on {settings.api_host}:{settings.api_port}; its log says why"
        )
