"""`flowtrail migrate` and `flowtrail init`. What they need is imported when they run: the migration
tool alone takes longer to load than most commands take to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.cli.output import JsonFlag, write_json
from tracker.cli.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("migrate")(migrate)
    app.command("init")(init)


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Only tell; exit code 1 if there is something to do.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Bring the database's tables to the version that this program needs; safe to repeat."""
    from tracker import migrations

    settings = load_settings()
    dsn, schema = settings.migration_dsn(), settings.db_schema
    if check:
        migrations.check(dsn, schema)
    applied = [] if check else migrations.migrate(dsn, schema)
    if json:
        write_json({"schema": schema, "revision": migrations.HEAD, "applied": applied})
    elif applied:
        typer.echo(f"schema {schema}: applied {', '.join(applied)}")
    else:
        typer.echo(f"schema {schema}: up to date ({migrations.HEAD})")


def init(
    database_url: Annotated[
        str | None, typer.Option(help="Default: FLOWTRAIL_DATABASE_URL, else it asks.")
    ] = None,
    api_url: Annotated[str | None, typer.Option(help="Where the API will listen.")] = None,
    env_file: Annotated[Path, typer.Option(help="File for the settings.")] = Path(".env"),
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing; create what is missing.")
    ] = False,
) -> None:
    """Set up the tracker: database, tables, grants, first API key, `.env`. Safe to repeat."""
    from tracker.cli.wizard import Wishes, run_wizard

    run_wizard(load_settings(), Wishes(database_url, api_url, env_file, ask=not yes))
