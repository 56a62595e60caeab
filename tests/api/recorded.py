"""Puts recorded facts into a test's database, the way the recorder does."""

from __future__ import annotations

import json
from typing import Any

from tests.factories import ARun
from tracker.core.events import TrackerEvent
from tracker.core.fold import fold
from tracker.core.payloads import Handling, StoredPayload, Treatment, store_json
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions, dedicated
from tracker.store.record import write_batch


async def record(database: str, *events: TrackerEvent) -> None:
    """Write events in one batch."""
    async with dedicated(DatabaseOptions(database)) as connection:
        await write_batch(connection, DEFAULT_SCHEMA, fold(events))


def payload(value: Any, treatment: Treatment = Treatment.FULL) -> StoredPayload:
    """A JSON value as it is stored."""
    stored = store_json(json.dumps(value).encode(), Handling(treatment), "input")
    assert stored is not None
    return stored


async def recorded_run(database: str, run: ARun, **started: Any) -> ARun:
    """Record that a run began."""
    await record(database, run.started(**started))
    return run
