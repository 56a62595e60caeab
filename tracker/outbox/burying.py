"""Giving up an entry of the outbox, and telling people once what to do about it."""

from __future__ import annotations

import logging

from tracker.store import dead_entries
from tracker.store.database import Database
from tracker.store.outbox import Leased

logger = logging.getLogger(__name__)


async def bury(database: Database, entry: Leased, reason: str) -> None:
    """Make an entry dead because nothing can come of it."""
    if await dead_entries.bury(database, entry, reason):
        _tell(entry, reason)


async def fail(database: Database, entry: Leased, error: Exception) -> bool:
    """Note what no try should meet; after `dead_entries.FAILURES_MAX` of it the entry is dead.

    Returns:
        Whether it is.
    """
    reason = f"{type(error).__name__}: {error}"
    dead = await dead_entries.fail(database, entry, reason)
    if dead:
        _tell(entry, reason)
    return dead


def _tell(entry: Leased, reason: str) -> None:
    run_id = entry.id if entry.kind == "start" else entry.run_id
    logger.error(
        "%s %s of run %s is dead, nothing tries it again: %s. "
        "`flowtrail outbox retry %s` revives it, `flowtrail outbox drop %s` removes it",
        entry.kind,
        entry.id,
        run_id,
        reason,
        entry.id,
        entry.id,
        extra={"event": "outbox.dead", "entry_id": str(entry.id), "run_id": str(run_id)},
    )
