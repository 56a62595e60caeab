"""`flowtrail outbox`: what is accepted and not confirmed by Temporal, and what to do about entries
that are dead. Straight in the database: when Temporal or the API is away is when one looks here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import typer

from tracker.cli.auditing import note
from tracker.cli.output import JsonFlag, write_json, write_table
from tracker.cli.settings import open_database, temporal_namespace
from tracker.store import dead_entries
from tracker.store.database import Database
from tracker.store.dead_entries import OutboxEntry

commands = typer.Typer(
    no_args_is_help=True, help="See what waits for Temporal; revive or drop what is dead."
)

EntryId = Annotated[UUID, typer.Argument(help="Id of the entry.")]
Reason = Annotated[str | None, typer.Option(help="Why, for the audit.")]
Change = Callable[[Database, str, UUID], Awaitable[OutboxEntry]]


@commands.command("list")
def list_(
    dead: Annotated[bool, typer.Option("--dead", help="Only entries that are given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Entries at most.")] = 100,
    json: JsonFlag = False,
) -> None:
    """List starts and signals that Temporal has not confirmed, those due first, dead ones last."""
    namespace = temporal_namespace()

    async def run() -> list[OutboxEntry]:
        async with open_database() as database:
            return await dead_entries.list_entries(database, namespace, dead=dead, limit=limit)

    found = asyncio.run(run())
    if json:
        write_json({"entries": found})
        return
    write_table(
        ["ID", "KIND", "RUN", "ACCEPTED", "TRIES", "DUE", "DEAD SINCE", "LAST ERROR"],
        [
            (e.id, e.kind, e.run_id, e.created_at, e.tries, e.due_at, e.dead_at, e.last_error)
            for e in found
        ],
        empty="No dead entries." if dead else "The outbox is empty.",
    )


@commands.command()
def retry(entry_id: EntryId, reason: Reason = None) -> None:
    """Make a dead entry due again; a relay takes it within a second."""
    entry = _changed("outbox.retry", dead_entries.revive, entry_id, reason)
    typer.echo(f"{entry.kind} {entry.id} is due again")


@commands.command()
def drop(entry_id: EntryId, reason: Reason = None) -> None:
    """Remove a dead entry for good. The run of a start ends as `rejected`."""
    entry = _changed("outbox.drop", dead_entries.drop, entry_id, reason)
    ended = f"; run {entry.run_id} is rejected" if entry.kind == "start" else ""
    typer.echo(f"dropped {entry.kind} {entry.id}{ended}")


def _changed(action: str, change: Change, entry_id: UUID, reason: str | None) -> OutboxEntry:
    namespace = temporal_namespace()

    async def run() -> OutboxEntry:
        async with open_database() as database:
            entry = await change(database, namespace, entry_id)
            details = {"entry_id": str(entry.id), "kind": entry.kind}
            run_id = entry.run_id
            await note(database, namespace, action, run_id=run_id, reason=reason, details=details)
            return entry

    return asyncio.run(run())
