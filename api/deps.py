"""What routes ask for: the services of the process, and the caller with the scope they need."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from temporalio.client import Client

from api.auth import Authenticator, Caller, requires
from api.metrics import Metrics
from api.settings import ApiSettings
from tracker.store.database import Database
from tracker.temporal.start_service import StartService


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
    starts: StartService
    authenticator: Authenticator
    metrics: Metrics
    stopping: asyncio.Event


async def services(request: Request) -> Services:
    """The services of this app."""
    return request.app.state.services


TheServices = Annotated[Services, Depends(services)]
Reader = Annotated[Caller, Depends(requires("read"))]
Starter = Annotated[Caller, Depends(requires("start"))]
Controller = Annotated[Caller, Depends(requires("control"))]
