"""What routes ask for: access with the scope they need, which brings the process's services."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from temporalio.client import Client

from api.auth import Access, Authenticator, requires
from api.live.connections import LiveConnections
from api.metrics import Metrics
from api.reporting import Reporting
from api.settings import ApiSettings
from tracker.feed.feed import Feed
from tracker.store.database import Database
from tracker.temporal.bulk.service import BulkService
from tracker.temporal.control import RunControl
from tracker.temporal.pauses import Pauses
from tracker.temporal.reruns import Reruns
from tracker.temporal.resets import Resets
from tracker.temporal.start_service import StartService
from tracker.temporal.task_queues import TaskQueues


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
    control: RunControl
    reruns: Reruns
    resets: Resets
    pauses: Pauses
    bulks: BulkService
    task_queues: TaskQueues
    authenticator: Authenticator
    reporting: Reporting
    feed: Feed
    live_connections: LiveConnections
    metrics: Metrics
    stopping: asyncio.Event


async def _services(request: Request) -> Services:
    return request.app.state.services


PublicServices = Annotated[Services, Depends(_services)]
"""For routes that anybody may call."""
Reading = Annotated[Access[Services], requires("read")]
ReadingSome = Annotated[Access[Services], requires("read", narrows=True)]
"""For routes that keep a restricted caller to its runs themselves."""
Streaming = Annotated[Access[Services], requires("read", narrows=True, tickets=True)]
"""For a live connection, to which a ticket may stand in for a key."""
Starting = Annotated[Access[Services], requires("start", narrows=True)]
StartingIn = Annotated[Access[Services], requires("start")]
"""For what adds to one run."""
Controlling = Annotated[Access[Services], requires("control")]
Administering = Annotated[Access[Services], requires("admin")]
