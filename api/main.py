"""The app: its parts wired together, and what lives as long as it does.

Start it with `flowtrail api`. Nothing here needs Postgres or Temporal to be there at the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from temporalio.client import Client

from api import errors
from api.auth import SECURITY_SCHEMES, Authenticator
from api.deps import Services
from api.flowflare import routes as flowflare_routes
from api.flowflare.gate import FlowflareGate
from api.flowflare.service import Flowflare
from api.live.connections import LiveConnections
from api.metrics import Metrics
from api.middleware import BodyLimit, RequestContext
from api.openapi import DESCRIPTION, TAGS
from api.reporting import Reporting
from api.routes import (
    audit,
    bulk,
    changes,
    control,
    external,
    health,
    live,
    pausing,
    queues,
    refs,
    runs,
    search,
    stats,
    workflow_types,
    workflows,
)
from api.settings import ApiSettings
from api.upkeep import keep_partitions
from tracker import __version__
from tracker.cli.tracing import Tracing
from tracker.feed.feed import Feed
from tracker.feed.sequencer import Sequencer
from tracker.outbox import Relay
from tracker.store.accept import API_LEASE
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.bulk.service import BulkService
from tracker.temporal.connection import connect, load_converter
from tracker.temporal.control import RunControl
from tracker.temporal.pauses import Pauses
from tracker.temporal.reach import Reach
from tracker.temporal.reruns import Reruns
from tracker.temporal.resets import Resets
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartService
from tracker.temporal.starter import TemporalStarter
from tracker.temporal.task_queues import TaskQueues

ROUTES = (
    runs,
    control,
    changes,
    pausing,
    bulk,
    external,
    search,
    queues,
    refs,
    workflows,
    workflow_types,
    stats,
    audit,
    live,
    health,
)


class Api(FastAPI):
    """FastAPI, with the ways to show a key in the document."""

    def openapi(self) -> dict[str, Any]:
        """See FastAPI."""
        document = super().openapi()
        document["components"]["securitySchemes"] = SECURITY_SCHEMES
        return document


def create_app(settings: ApiSettings, tracing: Tracing | None = None) -> FastAPI:
    """The ASGI app. `app.state.stopping` ends all waiting requests once it is set.

    Args:
        tracing: Where spans go; None: there are none.

    Raises:
        ConfigurationError: A setting is wrong that only its use can tell.
    """
    settings.database_options()
    settings.token_verifier()
    if settings.data_converter is not None:
        load_converter(settings.data_converter)
    metrics = Metrics()
    app = Api(
        title="Flowtrail",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url="/docs",
        redoc_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.tracing = tracing
    app.state.metrics = metrics
    app.state.stopping = asyncio.Event()
    errors.register(app)
    for module in ROUTES:
        app.include_router(module.router)
    app.include_router(flowflare_routes.router)
    _surround(app, settings, metrics)
    if tracing is not None:
        tracing.instrument(app)
    _gate(app, settings)
    return app


def _gate(app: FastAPI, settings: ApiSettings) -> None:
    """Outside everything, tracing too: it takes keys out of paths before these are told anywhere.
    Middleware could not, for tracing puts itself around that."""
    build = app.build_middleware_stack

    def gated() -> ASGIApp:
        return FlowflareGate(build(), settings.allowed_origins)

    app.build_middleware_stack = gated


def _surround(app: FastAPI, settings: ApiSettings, metrics: Metrics) -> None:
    """Middleware; what is added last is outermost."""
    app.add_middleware(BodyLimit, limit=settings.body_limit)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "PATCH", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(RequestContext, metrics=metrics)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: ApiSettings = app.state.settings
    stopping: asyncio.Event = app.state.stopping
    tracing: Tracing | None = app.state.tracing
    interceptors = [] if tracing is None else tracing.interceptors()
    temporal = await connect(settings.data_converter, interceptors=interceptors)
    options = settings.database_options()
    async with Database(options, max_connections=settings.max_connections) as database:
        app.state.services = _services(app, database, temporal)
        app.state.flowflare = Flowflare(app.state.services)
        relaying = TemporalStarter(temporal, search_attributes=settings.search_attributes)
        async with Relay(database, temporal.namespace, relaying) as relay:
            _show(app.state.metrics, database, relay)
            upkeep = asyncio.create_task(keep_partitions(options, stopping))
            async with _feeding(app, app.state.services.feed, options):
                try:
                    yield
                finally:
                    stopping.set()
                    await upkeep


@asynccontextmanager
async def _feeding(app: FastAPI, feed: Feed, options: DatabaseOptions) -> AsyncGenerator[None]:
    """Follow the live feed, and order it unless another process does."""
    sequencer = Sequencer(options, keep_seconds=app.state.settings.changes_kept)
    _show_feed(app.state.metrics, app.state.services, sequencer)
    tasks = [asyncio.create_task(feed.run()), asyncio.create_task(sequencer.run())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _services(app: FastAPI, database: Database, temporal: Client) -> Services:
    settings: ApiSettings = app.state.settings
    encoder = StartEncoder(
        temporal.namespace,
        data_converter=temporal.data_converter,
        policy=settings.policy(),
    )
    starter = TemporalStarter(
        temporal, search_attributes=settings.search_attributes, seconds=settings.start_within
    )
    lease = max(API_LEASE, 2 * settings.start_within)
    starts = StartService(database, encoder, starter, lease=lease)
    reach = Reach(database, temporal)
    return Services(
        settings=settings,
        namespace=temporal.namespace,
        database=database,
        temporal=temporal,
        starts=starts,
        control=RunControl(reach),
        reruns=Reruns(reach, starts),
        resets=Resets(reach),
        pauses=Pauses(reach),
        bulks=BulkService(reach),
        task_queues=TaskQueues(database, temporal),
        authenticator=Authenticator(
            database,
            enabled=settings.auth == "on",
            tokens=settings.token_verifier(),
            token_rate=settings.jwt_rate,
        ),
        reporting=Reporting(database, temporal.namespace, settings.policy()),
        feed=Feed(database, temporal.namespace),
        live_connections=LiveConnections(settings.live_connections),
        metrics=app.state.metrics,
        stopping=app.state.stopping,
    )


def _show(metrics: Metrics, database: Database, relay: Relay) -> None:
    metrics.add(
        "flowtrail_relay",
        "What became of starts and signals that the relay brought to Temporal.",
        lambda: asdict(relay.counters),
        monotonic=True,
    )
    metrics.add(
        "flowtrail_pool", "The pool of database connections.", database.numbers, monotonic=False
    )


def _show_feed(metrics: Metrics, services: Services, sequencer: Sequencer) -> None:
    feed = services.feed
    metrics.add(
        "flowtrail_sequencer",
        "What this process did as the live feed's sequencer, and whether it is that now.",
        lambda: {"changes": sequencer.counters.changes, "rounds": sequencer.counters.rounds},
        monotonic=True,
    )
    metrics.add(
        "flowtrail_feed",
        "Changes of the live feed that this process read and handed on.",
        lambda: asdict(feed.counters),
        monotonic=True,
    )
    metrics.add(
        "flowtrail_live",
        "Live connections and subscriptions of this process, and whether it orders the feed.",
        lambda: {
            "connections": services.live_connections.open,
            "subscriptions": feed.subscriptions,
            "leading": sequencer.counters.leading,
        },
        monotonic=False,
    )
