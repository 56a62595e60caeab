"""The set-up wizard: everything between an address and a tracker that can be used. Each step looks
first and says what it found, so the wizard can be run again at any time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import typer

from tracker import __version__
from tracker.cli.auditing import note
from tracker.cli.beside import application_root
from tracker.cli.env_file import read_env, write_env
from tracker.cli.settings import CliSettings, temporal_namespace
from tracker.errors import ConfigurationError
from tracker.migrations import current_revision, grants_sql, migrate
from tracker.store import keys, provision
from tracker.store.database import Database, DatabaseOptions

DEFAULT_DATABASE_URL = "postgresql://postgres@localhost:5432/flowtrail"
FIRST_KEY = "init"
"""Name of the key that the wizard makes."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller of the wizard said.

    Attributes:
        database_url, api_url: None: as the settings say.
        env_file: Where the settings are kept.
        ask: Whether somebody is there to answer questions.
    """

    database_url: str | None
    api_url: str | None
    env_file: Path
    ask: bool


def run_wizard(settings: CliSettings, wishes: Wishes) -> None:
    """Set everything up and say so, step by step.

    Raises:
        ConfigurationError: No database is named, or what is needed cannot be done with it.
        DatabaseUnavailable: The database server is away.
    """
    dsn = _chosen_url(settings, wishes)
    options = DatabaseOptions(dsn, settings.db_schema)
    _ensure_database(dsn, ask=wishes.ask)
    _ensure_tables(dsn, options.schema)
    secret = asyncio.run(_first_key(options, _known_secret(settings, wishes.env_file)))
    _write_settings(settings, wishes, dsn, secret)
    typer.echo("\nGrants, where worker, API and people connect as roles of their own:\n")
    typer.echo(grants_sql(options.schema))
    typer.echo(f"Next: {_next_command(wishes.env_file)}")


def _chosen_url(settings: CliSettings, wishes: Wishes) -> str:
    known = None if settings.database_url is None else settings.database_url.get_secret_value()
    url = wishes.database_url or known
    if url is None and wishes.ask:
        url = str(typer.prompt("Database URL", default=DEFAULT_DATABASE_URL))
    if url is None:
        raise ConfigurationError("give --database-url, or set FLOWTRAIL_DATABASE_URL")
    provision.database_name(url)
    return url


def _ensure_database(dsn: str, *, ask: bool) -> None:
    name = provision.database_name(dsn)
    if provision.database_exists(dsn):
        typer.echo(f"database {name}: there")
        return
    if ask:
        typer.confirm(f"Database {name} does not exist. Create it?", default=True, abort=True)
    provision.create_database(dsn)
    typer.echo(f"database {name}: created")


def _ensure_tables(dsn: str, schema: str) -> None:
    before = current_revision(dsn, schema)
    applied = migrate(dsn, schema)
    state = f"applied {', '.join(applied)}" if applied else f"up to date ({before})"
    typer.echo(f"schema {schema}: {state}")


def _known_secret(settings: CliSettings, env_file: Path) -> str | None:
    in_file = read_env(env_file).get("FLOWTRAIL_API_KEY")
    in_force = None if settings.api_key is None else settings.api_key.get_secret_value()
    return in_file or in_force


async def _first_key(options: DatabaseOptions, known: str | None) -> str | None:
    """The secret to write: the known one if it opens, a new one if there is no usable key at all,
    else none, for the wizard must not hand out rights behind the back of who made the others."""
    async with Database(options, max_connections=1) as database:
        if known is not None and await keys.find_by_secret(database, known) is not None:
            typer.echo("API key: the one in the settings is valid")
            return known
        made = await keys.list_keys(database)
        if any(key.revoked_at is None for key in made):
            typer.echo("API key: there are some; make one with `flowtrail keys create`")
            return None
        name = FIRST_KEY if not made else f"{FIRST_KEY}-{len(made) + 1}"
        _, secret = await keys.create(database, name, keys.SCOPES)
        details = {"name": name, "scopes": list(keys.SCOPES)}
        await note(database, temporal_namespace(), "key.create", details=details)
        typer.echo(f"API key: made {name!r} with every scope")
        return secret


def _write_settings(settings: CliSettings, wishes: Wishes, dsn: str, secret: str | None) -> None:
    wanted = {
        "FLOWTRAIL_DATABASE_URL": dsn,
        "FLOWTRAIL_API_URL": wishes.api_url or settings.api_url,
    }
    if secret is not None:
        wanted["FLOWTRAIL_API_KEY"] = secret
    try:
        changed = write_env(wishes.env_file, wanted)
    except ConfigurationError:
        if secret is not None:
            typer.echo(f"not written, and not shown again: FLOWTRAIL_API_KEY={secret}", err=True)
        raise
    done = f"wrote {', '.join(changed)}" if changed else "nothing to change"
    typer.echo(f"{wishes.env_file}: {done}")


def _next_command(env_file: Path) -> str:
    if application_root() is not None:
        return "flowtrail worker and, beside it, flowtrail api"
    return (
        f"docker run --env-file {env_file} flowtrail:{__version__} api, or add TrackerPlugin to "
        "your own worker"
    )
