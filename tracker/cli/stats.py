"""`flowtrail stats`: how far the tables are behind Temporal, and what waits."""

from __future__ import annotations

import asyncio

import typer

from tracker.cli.output import JsonFlag, write_fields, write_json
from tracker.cli.settings import open_database, temporal_namespace
from tracker.models.stats import COUNTED_TO, Stats
from tracker.store.stats import read_stats


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stats")(stats)


def stats(json: JsonFlag = False) -> None:
    """Show how far the tables are behind Temporal, and what waits. Straight from the database."""
    namespace = temporal_namespace()

    async def run() -> Stats:
        async with open_database() as database:
            return await read_stats(database, namespace)

    found = asyncio.run(run())
    if json:
        write_json(found)
        return
    reconciler, outbox = found.reconciler, found.outbox
    write_fields(
        [
            ("namespace", found.namespace),
            *((f"runs {status}", _counted(number)) for status, number in found.runs.items()),
            ("unverified", _counted(found.unverified)),
            ("unverifiable", _counted(found.unverifiable)),
            ("outbox", _counted(outbox.size)),
            ("outbox, dead", _counted(outbox.dead)),
            ("outbox, oldest", _seconds(outbox.oldest_seconds)),
            ("workers alive", found.recorders.alive),
            ("events spilled", f"{found.recorders.spilled:,}"),
            ("events dropped", f"{found.recorders.dropped:,}"),
            ("events poisoned", f"{found.recorders.poisoned:,}"),
            ("last round", _seconds(reconciler.since_round_seconds, "ago") or "never"),
            ("reconcile lag", _seconds(reconciler.lag_seconds)),
        ]
    )


def _counted(number: int) -> str:
    return f"more than {COUNTED_TO - 1:,}" if number == COUNTED_TO else f"{number:,}"


def _seconds(seconds: float | None, suffix: str = "") -> str | None:
    return None if seconds is None else f"{seconds:,.1f} s {suffix}".strip()
