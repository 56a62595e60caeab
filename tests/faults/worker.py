"""The worker program of the fault suite: `workers/main.py` in small, for our own workflows, with a
reconciler and a relay that hurry.

SIGUSR1 puts its wall clock an hour ahead, SIGUSR2 an hour back: `time.time`, `time.time_ns`,
`time.clock_gettime`, `datetime.now` and `datetime.utcnow` of all Python code in the process, at
once. Not shifted are monotonic clocks, which do not jump in reality either, and the SDK's core,
which is no Python.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import time_machine
from temporalio.client import Client
from temporalio.worker import Worker

from tests.faults.workload import ACTIVITIES, WORKFLOWS
from tracker.cli.environment import load
from tracker.outbox import Relay, RelayOptions
from tracker.recorder.options import RecorderOptions, default_spill_dir
from tracker.store import schema
from tracker.store.database import Database
from tracker.temporal.connection import connect
from tracker.temporal.plugin import TrackerPlugin
from tracker.temporal.reconcile import Reconciler, ReconcilerOptions
from tracker.temporal.starter import TemporalStarter
from workers.settings import WorkerSettings

SERVES = "worker serves"
"""In its log once it polls."""
CLOCK_MOVED = "clock moved"
HOUR = timedelta(hours=1)
RELAY = RelayOptions(poll=0.1, lease=3.0, pause_max=0.5)
RECONCILER = ReconcilerOptions(interval=0.2, quiet=1.0)

logger = logging.getLogger(__name__)


async def main(settings: WorkerSettings) -> None:
    """Work until SIGTERM."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_signal_handler(signal.SIGUSR1, _move_clock, HOUR)
    loop.add_signal_handler(signal.SIGUSR2, _move_clock, -HOUR)
    recorder = RecorderOptions(
        settings.database_options(),
        durability=settings.durability,
        spill_dir=settings.spill_dir or default_spill_dir(),
        retry_after=0.5,
    )
    client = await connect(plugins=[TrackerPlugin(recorder=recorder)], lazy=False)
    async with _background(settings, client), _worker(settings, client):
        logger.info(SERVES)
        await told.wait()


def _worker(settings: WorkerSettings, client: Client) -> Worker:
    return Worker(
        client,
        task_queue=settings.task_queue,
        identity=f"worker-{os.getpid()}",
        workflows=WORKFLOWS,
        activities=ACTIVITIES,
        max_concurrent_activities=200,
        graceful_shutdown_timeout=timedelta(milliseconds=500),
        # How long the server keeps tasks for a worker that is dead.
        sticky_queue_schedule_to_start_timeout=timedelta(milliseconds=300),
    )


@asynccontextmanager
async def _background(settings: WorkerSettings, client: Client) -> AsyncGenerator[None]:
    options = settings.database_options()
    async with (
        Database(options, max_connections=2) as database,
        Relay(database, client.namespace, TemporalStarter(client, seconds=1.0), RELAY),
        Reconciler(client, options, pace=RECONCILER),
    ):
        yield


def _move_clock(by: timedelta) -> None:
    time_machine.travel(datetime.now(UTC) + by, tick=True).start()
    logger.info("%s by %s", CLOCK_MOVED, by)


def _be_of_another_version(revisions: str) -> None:
    schema.REVISIONS = tuple(revisions.split(","))
    schema.REQUIRED_REVISION = schema.REVISIONS[-1]


if __name__ == "__main__":
    if known := os.environ.get("FAULTS_REVISIONS"):
        _be_of_another_version(known)
    logging.basicConfig(level=logging.INFO)
    for name in ("temporalio.activity", "psycopg.pool"):  # Both have trouble on purpose.
        logging.getLogger(name).setLevel(logging.ERROR)
    asyncio.run(main(load(WorkerSettings)))
