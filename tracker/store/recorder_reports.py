"""What recorders tell of themselves, so that spilled and lost events show where people look."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from tracker.store.database import DatabaseOptions, dedicated, translated
from tracker.store.queries import load


async def note_recorder(
    options: DatabaseOptions, recorder_id: UUID, worker: str, numbers: Mapping[str, int]
) -> None:
    """Set the figures of one recorder.

    Args:
        worker: Host and process, for people.
        numbers: `recorded`, `written`, `spilled`, `dropped`, `poisoned`, `spill_bytes`.

    Raises:
        TrackerError: The database is away, or the schema is of another version.
    """
    parameters = {**numbers, "id": recorder_id, "worker": worker}
    async with dedicated(options) as connection:
        with translated():
            await connection.execute(options.qualified(load("stats")["note_recorder"]), parameters)
