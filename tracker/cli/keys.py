"""`flowtrail keys`: API keys, straight in the database, so that the first one needs no other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tracker.cli.output import JsonFlag, write_json, write_table
from tracker.cli.settings import open_database
from tracker.store import keys
from tracker.store.keys import SCOPES, ApiKey

commands = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="For whom or what it is.")],
    scope: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(SCOPES)}; repeatable. Default: read.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires.")] = None,
    json: JsonFlag = False,
) -> None:
    """Make a key and print its secret, which is not shown again."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    async def run() -> tuple[object, str]:
        async with open_database() as database:
            return await keys.create(database, name, scope or ["read"], expires_at)

    key_id, secret = asyncio.run(run())
    if json:
        write_json({"id": key_id, "name": name, "secret": secret, "expires_at": expires_at})
    else:
        typer.echo(secret)


@commands.command("list")
def list_(json: JsonFlag = False) -> None:
    """List all keys ever made, without their secrets."""

    async def run() -> list[ApiKey]:
        async with open_database() as database:
            return await keys.list_keys(database)

    found = asyncio.run(run())
    if json:
        write_json({"keys": [_facts(key) for key in found]})
        return
    write_table(
        ["NAME", "SCOPES", "CREATED", "EXPIRES", "REVOKED"],
        [
            (key.name, ", ".join(_scopes(key)), key.created_at, key.expires_at, key.revoked_at)
            for key in found
        ],
        empty="No keys. Make one with `flowtrail keys create NAME`.",
    )


@commands.command()
def revoke(name: Annotated[str, typer.Argument(help="Name of the key.")]) -> None:
    """End a key for good."""

    async def run() -> ApiKey:
        async with open_database() as database:
            return await keys.revoke(database, name)

    asyncio.run(run())
    typer.echo(f"revoked {name}")


def _facts(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json") | {"scopes": _scopes(key)}


def _scopes(key: ApiKey) -> list[str]:
    return [scope for scope in SCOPES if scope in key.scopes]
