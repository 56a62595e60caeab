"""A worker process for tests that kill it; SIGTERM ends it in good order.

Arguments: Temporal address, namespace, task queue, database, spill folder, seconds to wait for a
flush.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from tests.temporal.tracking.crash_workflows import ACTIVITIES, WORKFLOWS
from tests.temporal.tracking.harness import GRACE
from tracker.recorder.options import RecorderOptions
from tracker.store.database import DatabaseOptions
from tracker.temporal.plugin import TrackerPlugin


async def main(
    address: str, namespace: str, queue: str, dsn: str, spill: str, max_wait: str
) -> None:
    """Work until told to stop."""
    options = RecorderOptions(DatabaseOptions(dsn), spill_dir=Path(spill), max_wait=float(max_wait))
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    client = await Client.connect(
        address, namespace=namespace, plugins=[TrackerPlugin(recorder=options)]
    )
    async with Worker(
        client,
        task_queue=queue,
        workflows=WORKFLOWS,
        activities=ACTIVITIES,
        graceful_shutdown_timeout=GRACE,
        # How long the server keeps tasks for a worker that is dead.
        sticky_queue_schedule_to_start_timeout=timedelta(milliseconds=200),
    ):
        await told.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
