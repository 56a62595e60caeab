"""The worker program: connects, registers the example workflows, runs until it is told to stop.

A stop (SIGTERM, Ctrl-C) is graceful: polling ends, activities get their grace, what was recorded
is flushed or spilled.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker
from tenacity import (
    AsyncRetrying,
    before_sleep_log,
    retry_if_exception_type,
    wait_random_exponential,
)

from activities.bulk import BulkActivities
from activities.email import EmailActivities, MailServer
from examples.sample_shop import sample_order_activities
from tracker.cli.tracing import Tracing, tracing
from tracker.core.ref_rules import RefRule
from tracker.outbox.relay import Relay
from tracker.recorder.options import RecorderOptions, default_spill_dir
from tracker.store.database import Database
from tracker.temporal.bulk.carrying_out import BulkWork
from tracker.temporal.bulk.order import BULK_QUEUE
from tracker.temporal.connection import connect
from tracker.temporal.plugin import TrackerPlugin
from tracker.temporal.reach import Reach
from tracker.temporal.reconcile import Reconciler, ReconcilerOptions
from tracker.temporal.ref_rules import history_rules, load_rules
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartService
from tracker.temporal.starter import TemporalStarter
from workers.settings import WorkerSettings
from workflows.bulk import Bulk
from workflows.email_campaign import EmailCampaign
from workflows.order_fulfilment import OrderFulfilment, ShipOrder

logger = logging.getLogger(__name__)

BULK_CONNECTIONS = 8
THREADS = 16
"""Synchronous activities at once."""


async def run(settings: WorkerSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tracing("flowtrail-worker", enabled=settings.tracing) as spans:
        client = await _connected(settings, stop, spans)
        if client is not None:
            await _work(settings, client, stop)


async def _work(settings: WorkerSettings, client: Client, stop: asyncio.Event) -> None:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="activity") as executor:
        async with (
            _reconciling(settings, client),
            _relaying(settings, client),
            _carrying_out_bulks(settings, client),
            _worker(settings, client, executor),
        ):
            logger.info("worker polls task queue %s", settings.task_queue)
            await stop.wait()
            logger.info("worker stops")


async def _connected(
    settings: WorkerSettings, stop: asyncio.Event, spans: Tracing | None
) -> Client | None:
    """A client, as soon as Temporal answers; None if the stop came first."""
    connecting = asyncio.ensure_future(_connect(settings, spans))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if connecting.done():
        return connecting.result()
    connecting.cancel()
    return None


async def _connect(settings: WorkerSettings, spans: Tracing | None) -> Client:
    plugin = TrackerPlugin(
        recorder=RecorderOptions(
            settings.database_options(),
            durability=settings.durability,
            spill_dir=settings.spill_dir or default_spill_dir(),
        ),
        payloads=settings.policy(),
        ref_rules=_rules(settings),
    )
    async for attempt in AsyncRetrying(
        wait=wait_random_exponential(max=10),
        retry=retry_if_exception_type((RPCError, RuntimeError)),
        before_sleep=before_sleep_log(logger, logging.WARNING),
    ):
        with attempt:
            return await connect(
                settings.data_converter,
                plugins=[plugin],
                interceptors=[] if spans is None else spans.interceptors(),
                lazy=False,
            )
    raise AssertionError("unreachable: the retries have no limit")


def _worker(settings: WorkerSettings, client: Client, executor: ThreadPoolExecutor) -> Worker:
    server = MailServer(settings.smtp_host, settings.smtp_port, settings.mail_from)
    emails, orders = EmailActivities(server), sample_order_activities()
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=[EmailCampaign, OrderFulfilment, ShipOrder],
        activities=[
            emails.validate_recipients,
            emails.send_batch,
            emails.send_report,
            orders.reserve,
            orders.release,
            orders.charge,
            orders.refund,
            orders.pack,
            orders.book_courier,
        ],
        activity_executor=executor,
        graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace),
    )


@asynccontextmanager
async def _reconciling(settings: WorkerSettings, client: Client) -> AsyncGenerator[None]:
    if not settings.reconcile:
        yield
        return
    reconciler = Reconciler(
        client,
        settings.database_options(),
        policy=settings.policy(),
        ref_rules=history_rules(_rules(settings)),
        pace=ReconcilerOptions(changes_kept=settings.changes_kept),
    )
    async with reconciler:
        yield


@asynccontextmanager
async def _relaying(settings: WorkerSettings, client: Client) -> AsyncGenerator[None]:
    """Start what `start_in_transaction` committed, also where no API runs."""
    options = settings.database_options()
    async with (
        Database(options, max_connections=2) as database,
        Relay(database, client.namespace, TemporalStarter(client)),
    ):
        yield


@asynccontextmanager
async def _carrying_out_bulks(settings: WorkerSettings, client: Client) -> AsyncGenerator[None]:
    """Serve `/v1/bulk`, on a task queue of its own."""
    options, policy = settings.database_options(), settings.policy()
    async with Database(options, max_connections=BULK_CONNECTIONS) as database:
        encoder = StartEncoder(
            client.namespace, data_converter=client.data_converter, policy=policy
        )
        starts = StartService(database, encoder, TemporalStarter(client))
        activities = BulkActivities(BulkWork(Reach(database, client), starts))
        async with Worker(
            client,
            task_queue=BULK_QUEUE,
            workflows=[Bulk],
            activities=[activities.gather, activities.act, activities.end],
            # A cancellation arrives with the answer to a heartbeat.
            max_heartbeat_throttle_interval=timedelta(seconds=1),
            graceful_shutdown_timeout=timedelta(seconds=1),
        ):
            yield


def _rules(settings: WorkerSettings) -> tuple[RefRule, ...]:
    return load_rules(settings.rules_file) if settings.rules_file.exists() else ()
