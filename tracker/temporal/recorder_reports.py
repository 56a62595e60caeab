"""Tells the tables, now and then, what a recorder spilled and lost: a worker's metrics may go where
the people who look at the tracker do not."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from uuid import uuid4

from tracker.errors import TrackerError
from tracker.recorder.recorder import Recorder
from tracker.store.recorder_reports import note_recorder

logger = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between two reports."""
FIRST_AFTER = 2.0


async def report_to_tables(recorder: Recorder, interval: float = INTERVAL) -> None:
    """Report until canceled. While the database is away nothing is told, but nothing is forgotten:
    the counters grow on."""
    recorder_id, worker = uuid4(), f"{socket.gethostname()}:{os.getpid()}"
    pause = min(interval, FIRST_AFTER)
    while True:
        await asyncio.sleep(pause)
        pause = interval
        counters = recorder.counters
        numbers = {
            "recorded": counters.recorded,
            "written": counters.written,
            "spilled": counters.spilled,
            "dropped": counters.dropped,
            "poisoned": counters.poisoned,
            "spill_bytes": recorder.spilled_bytes,
        }
        try:
            await note_recorder(recorder.options.database, recorder_id, worker, numbers)
        except TrackerError as error:
            logger.debug("the recorder cannot report now: %s", error)
