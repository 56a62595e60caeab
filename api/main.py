"""The app: its parts wired together, and what lives as long as it does.

Start it with `flowtrail api`. Nothing here needs Postgres or Temporal to be there at the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from api import errors
from api.auth import Authenticator
from api.deps import Services
from api.metrics import Metrics
from api.middleware import BodyLimit, RequestContext
from api.openapi import DESCRIPTION, TAGS
from api.parameters import known_parameters
from api.routes import health, refs, runs, workflow_types, workflows
from api.settings import ApiSettings
from api.temporal import connect
from tracker import __version__
from tracker.store.database import Database


def create_app(settings: ApiSettings) -> FastAPI:
    """The ASGI app. `app.state.stopping` ends all waiting requests once it is set."""
    metrics = Metrics()
    app = FastAPI(
        title="Flowtrail",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url="/docs",
        redoc_url=None,
        lifespan=_lifespan,
        dependencies=[Depends(known_parameters)],
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.stopping = asyncio.Event()
    errors.register(app)
    for module in (runs, refs, workflows, workflow_types, health):
        app.include_router(module.router)
    _surround(app, settings, metrics)
    return app


def _surround(app: FastAPI, settings: ApiSettings, metrics: Metrics) -> None:
    """Middleware; what is added last is outermost."""
    app.add_middleware(BodyLimit, limit=settings.body_limit)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(RequestContext, metrics=metrics)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: ApiSettings = app.state.settings
    temporal = await connect(settings.data_converter)
    options = settings.database_options()
    async with Database(options, max_connections=settings.max_connections) as database:
        app.state.services = Services(
            settings=settings,
            namespace=temporal.namespace,
            database=database,
            temporal=temporal,
            authenticator=Authenticator(database, enabled=settings.auth == "on"),
            metrics=app.state.metrics,
            stopping=app.state.stopping,
        )
        yield
        app.state.stopping.set()
