"""Brings one run's history into the tables: fetch, decode, project, write.

`flowtrail repair` and the reconciler use it; whatever live recording made of the run, the rows
are as history says afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self
from uuid import UUID

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from tracker.core.events import RunEvent, TrackerEvent
from tracker.core.payloads import PayloadPolicy
from tracker.core.status import CLOSED_RUN_STATUSES
from tracker.errors import Conflict, NotFound, TransientError
from tracker.store.batch_writer import Unavailable, Writer, encode_events
from tracker.store.database import Database
from tracker.store.reconcile import KnownRun, known_run
from tracker.store.run_detail import get_run
from tracker.temporal.history import RefRules
from tracker.temporal.history_reader import LARGE, NOTHING, HistoryReader, ReadHistory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Projected:
    """What a projection did.

    Attributes:
        history_length: Events of the history.
        events: Tracker events that it gave.
    """

    history_length: int
    events: int


class Projector:
    """Projects runs of a client's namespace; use it as an async context manager.

    Args:
        database: Open, for look-ups.
        policy: What is kept of inputs and outputs; as the namespace's workers have it.
        ref_rules: Derives refs of runs whose memo has none.
        seconds: What fetching one page of a history may take.
        announce: Whether what changes by it is told to the live feed.
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        *,
        policy: PayloadPolicy | None = None,
        ref_rules: RefRules | None = None,
        seconds: float = 10.0,
        announce: bool = True,
    ) -> None:
        self.reader = HistoryReader(client, policy=policy, ref_rules=ref_rules, seconds=seconds)
        self._client = client
        self._database = database
        self._writer = Writer(database.options)
        self._announce = announce
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._writer.close()

    async def project_run(self, workflow_id: str, run_key: UUID) -> Projected | None:
        """Bring a run's history into the tables; of an erased run without values and texts.

        Returns:
            None if Temporal has no history of it (any more).

        Raises:
            TransientError: Temporal or the database is away.
        """
        run, now = await known_run(self._database, self._client.namespace, run_key)
        erased = run is not None and run.erased
        history = await self.reader.read(workflow_id, run_key, projected_at=now, erased=erased)
        if history is None:
            return None
        return await self._take_in(history, run, run_key)

    async def project_history(
        self, history: Sequence[HistoryEvent], workflow_id: str, run_key: UUID
    ) -> Projected:
        """As `project_run`, with a history that is at hand, from its first event on.

        Raises:
            TransientError: The database is away.
        """
        run, now = await known_run(self._database, self._client.namespace, run_key)
        policy = NOTHING if run is not None and run.erased else None
        events = await self.reader.project(history, workflow_id, run_key, now, policy)
        return await self._take_in(ReadHistory(history[-1].event_id, events), run, run_key)

    async def _take_in(
        self, history: ReadHistory, run: KnownRun | None, run_key: UUID
    ) -> Projected:
        events = history.events if run is None else under_id(history.events, run.id)
        await self.write(events, run_key)
        return Projected(history.length, len(events))

    async def repair(self, run_id: UUID) -> Projected:
        """Make the rows of a run what its history says.

        Args:
            run_id: Ours or Temporal's.

        Raises:
            NotFound: No such run, or Temporal has no history of it any more.
            Conflict: Temporal never ran it.
            TransientError: It has not started, or Temporal or the database is away.
        """
        run = await get_run(self._database, self._client.namespace, run_id)
        if run.temporal_run_id is None:
            never = run.status in CLOSED_RUN_STATUSES
            kind = Conflict if never else TransientError
            raise kind(f"run {run.run_id} is {run.status}: it has no history", run_id=str(run_id))
        projected = await self.project_run(run.workflow_id, run.temporal_run_id)
        if projected is None:
            raise NotFound(
                f"Temporal has no history of run {run.run_id} any more; its rows stay as they are",
                run_id=str(run.run_id),
            )
        return projected

    async def write(self, events: Sequence[TrackerEvent], run_key: UUID) -> None:
        """Write what a history said.

        Raises:
            TransientError: The database is away.
        """
        if len(events) < LARGE:
            encoded = encode_events(events, announce=self._announce)
        else:
            encoded = await asyncio.to_thread(encode_events, events, announce=self._announce)
        try:
            async with self._writing:
                refused = await self._writer.write_row_by_row_if_refused(encoded)
        except Unavailable as error:
            raise error.reason from error
        if refused:
            logger.error(
                "the database refuses %d rows of Temporal run %s",
                refused,
                run_key,
                extra={"event": "projection.refused", "temporal_run_id": str(run_key)},
            )


def under_id(events: Sequence[TrackerEvent], run_id: UUID) -> list[TrackerEvent]:
    """The events with the id under which the tables know the run: they may know it from somebody
    who could read a memo that we cannot."""
    return [
        replace(event, run=replace(event.run, id=run_id)) if isinstance(event, RunEvent) else event
        for event in events
    ]
