"""What routes ask for: the services of the process, the caller, and only parameters they know."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from temporalio.client import Client

from api.auth import Authenticator, Caller, requires
from api.metrics import Metrics
from api.settings import ApiSettings
from tracker.store.database import Database

METADATA_PREFIX = "metadata."


@dataclass(frozen=True, slots=True)
class Services:
    """What lives as long as the process.

    Attributes:
        temporal: Connects at its first call, so that the API starts with Temporal down.
        stopping: Set when the process was told to stop: whoever waits, ends.
    """

    settings: ApiSettings
    namespace: str
    database: Database
    temporal: Client
    authenticator: Authenticator
    metrics: Metrics
    stopping: asyncio.Event


async def services(request: Request) -> Services:
    """The services of this app."""
    return request.app.state.services


async def metadata_filter(request: Request) -> dict[str, list[str]]:
    """Values asked for by `metadata.<key>=`, by key."""
    found: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name.startswith(METADATA_PREFIX):
            found.setdefault(name.removeprefix(METADATA_PREFIX), []).append(value)
    return found


async def known_parameters(request: Request) -> None:
    """Refuse query parameters that the route does not know: a mistyped filter that is ignored
    would answer with everything.

    Raises:
        RequestValidationError: Naming the parameter.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    cache: dict[str, _Known] = request.app.state.known_parameters
    if route.unique_id not in cache:
        cache[route.unique_id] = _parameters(route)
    known, takes_metadata = cache[route.unique_id]
    unknown = [
        name
        for name in request.query_params
        if name not in known and not (takes_metadata and name.startswith(METADATA_PREFIX))
    ]
    if unknown:
        message = f"unknown parameter; known here: {', '.join(sorted(known)) or 'none'}"
        raise RequestValidationError(
            [{"type": "unknown", "loc": ("query", name), "msg": message} for name in unknown]
        )


_Known = tuple[frozenset[str], bool]
"""Names of a route's parameters, and whether it takes `metadata.<key>` too."""


def _parameters(route: APIRoute) -> _Known:
    names: set[str] = set()
    takes_metadata = False
    for dependant in _all(route.dependant):
        takes_metadata = takes_metadata or dependant.call is metadata_filter
        for parameter in dependant.query_params:
            annotation: Any = parameter.field_info.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                names.update(annotation.model_fields)
            else:
                names.add(parameter.alias)
    return frozenset(names), takes_metadata


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _all(inner)


TheServices = Annotated[Services, Depends(services)]
Reader = Annotated[Caller, Depends(requires("read"))]
Starter = Annotated[Caller, Depends(requires("start"))]
Controller = Annotated[Caller, Depends(requires("control"))]
MetadataFilter = Annotated[dict[str, list[str]], Depends(metadata_filter)]
