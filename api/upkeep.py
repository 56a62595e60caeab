"""What somebody has to do now and then: making the payload partitions of the months to come.

Any number of API processes may do it; the library sees to it that each partition is made once.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime

from tracker.errors import TrackerError
from tracker.store.database import DatabaseOptions, translated
from tracker.store.partitions import make_due

logger = logging.getLogger(__name__)

EVERY = 6 * 3600.0
"""Seconds between two looks. Migrations make a year of partitions: a missed look costs nothing."""


async def keep_partitions(options: DatabaseOptions, stopping: asyncio.Event) -> None:
    """Make missing partitions until told to stop. What fails is logged and tried next time."""
    while not stopping.is_set():
        await asyncio.to_thread(_make_partitions, options)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), EVERY)


def _make_partitions(options: DatabaseOptions) -> None:
    try:
        with translated():
            made = make_due(options, datetime.now(UTC))
    except TrackerError as error:
        logger.warning(
            "payload partitions were not checked: %s", error, extra={"event": "partitions.failed"}
        )
    else:
        for name in made:
            logger.info("made partition %s", name, extra={"event": "partitions.made"})
