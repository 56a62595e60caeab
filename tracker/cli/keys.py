"""`flowtrail keys`: API keys, straight in the database, so that the first one needs no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer

from tracker.cli.auditing import note
from tracker.cli.output import JsonFlag, write_json, write_table
from tracker.cli.settings import open_database, temporal_namespace
from tracker.store import keys
from tracker.store.database import Database
from tracker.store.keys import SCOPES, ApiKey, Restriction

commands = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys.")

T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="Name of the key.")]
Days = Annotated[int | None, typer.Option(min=1, help="Days until it expires.")]


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="For whom or what it is.")],
    scope: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(SCOPES)}; repeatable. Default: read.")
    ] = None,
    days: Days = None,
    ref_type: Annotated[
        list[str] | None,
        typer.Option(help="Only runs that carry a ref of this type; repeatable."),
    ] = None,
    workflow_type: Annotated[
        list[str] | None, typer.Option(help="Only runs of this workflow type; repeatable.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second at most, per API process.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Make a key and print its secret, which is not shown again."""
    expires_at, scopes = _moment(days), scope or ["read"]
    restriction = Restriction(ref_type or (), workflow_type or (), rate)
    details = {
        "name": name,
        "scopes": scopes,
        "expires_at": None if expires_at is None else expires_at.isoformat(),
        "ref_types": ref_type,
        "workflow_types": workflow_type,
        "rate": rate,
    }

    async def change(database: Database) -> tuple[object, str]:
        return await keys.create(database, name, scopes, expires_at, restriction)

    key_id, secret = _changed("key.create", details, change)
    _show(secret, {"id": key_id, "name": name, "secret": secret, "expires_at": expires_at}, json)


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
        ["NAME", "SCOPES", "ONLY", "RATE", "CREATED", "EXPIRES", "OLD SECRET UNTIL", "REVOKED"],
        [
            (
                key.name,
                ", ".join(_scopes(key)),
                _restriction(key),
                key.rate,
                key.created_at,
                key.expires_at,
                key.previous_until,
                key.revoked_at,
            )
            for key in found
        ],
        empty="No keys. Make one with `flowtrail keys create NAME`.",
    )


@commands.command()
def rotate(
    name: Name,
    grace: Annotated[
        float,
        typer.Option(min=0, help="Hours that the present secret goes on working; 0: it ends now."),
    ] = 24,
    days: Days = None,
    json: JsonFlag = False,
) -> None:
    """Give a key a new secret and print it; the present one goes on working for a while.

    A second rotation within that time ends the oldest secret at once.
    """
    expires_at = _moment(days)
    details = {"name": name, "grace_hours": grace}

    async def change(database: Database) -> str:
        return await keys.rotate(database, name, timedelta(hours=grace), expires_at)

    secret = _changed("key.rotate", details, change)
    _show(secret, {"name": name, "secret": secret, "grace_hours": grace}, json)


@commands.command()
def revoke(name: Name) -> None:
    """End a key for good, with every secret that it has."""

    async def change(database: Database) -> ApiKey:
        return await keys.revoke(database, name)

    _changed("key.revoke", {"name": name}, change)
    typer.echo(f"revoked {name}")


def _changed(action: str, details: dict[str, Any], change: Callable[[Database], Awaitable[T]]) -> T:
    namespace = temporal_namespace()

    async def run() -> T:
        async with open_database() as database:
            done = await change(database)
            given = {key: value for key, value in details.items() if value is not None}
            await note(database, namespace, action, details=given)
            return done

    return asyncio.run(run())


def _moment(days: int | None) -> datetime | None:
    return None if days is None else datetime.now(UTC) + timedelta(days=days)


def _show(secret: str, facts: dict[str, Any], json: bool) -> None:
    if json:
        write_json(facts)
    else:
        typer.echo(secret)


def _facts(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json") | {
        "scopes": _scopes(key),
        "ref_types": None if key.ref_types is None else sorted(key.ref_types),
        "workflow_types": None if key.workflow_types is None else sorted(key.workflow_types),
    }


def _scopes(key: ApiKey) -> list[str]:
    return [scope for scope in SCOPES if scope in key.scopes]


def _restriction(key: ApiKey) -> str | None:
    parts = [
        f"{field}: {', '.join(sorted(types))}"
        for field, types in (("refs", key.ref_types), ("workflows", key.workflow_types))
        if types is not None
    ]
    return "; ".join(parts) or None
