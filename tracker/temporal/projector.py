"""Brings one run's history into the tables: fetch, decode, project, write.

`flowtrail repair` and the reconciler use it; whatever live recording made of the run, the rows
are as history says afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError

from tracker.core.events import RunEvent, TrackerEvent
from tracker.core.payloads import PayloadPolicy
from tracker.core.status import CLOSED_RUN_STATUSES
from tracker.errors import Conflict, NotFound, TransientError
from tracker.store.batch_writer import Unavailable, Writer, encode_events
from tracker.store.database import Database
from tracker.store.reconcile import known_runs
from tracker.store.run_detail import get_run
from tracker.temporal.history import RefRules, clear_payloads, project
from tracker.temporal.rpc import bounded_call, is_unknown_run, translate

logger = logging.getLogger(__name__)

LARGE = 1000
"""History events from which on a history is projected beside the event loop."""


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
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        *,
        policy: PayloadPolicy | None = None,
        ref_rules: RefRules | None = None,
        seconds: float = 10.0,
    ) -> None:
        self._client = client
        self._database = database
        has_codec = client.data_converter.payload_codec is not None
        self._policy = (policy or PayloadPolicy()).resolved(has_codec=has_codec)
        self._ref_rules = ref_rules
        self._seconds = seconds
        self._writer = Writer(database.options)
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._writer.close()

    async def project_run(self, workflow_id: str, run_key: UUID) -> Projected | None:
        """Bring a run's history into the tables.

        Returns:
            None if Temporal has no history of it (any more).

        Raises:
            TransientError: Temporal or the database is away.
        """
        history = await self._fetch(workflow_id, run_key)
        if not history:
            return None
        events = await self._events(history, workflow_id, run_key)
        await self._write(events, run_key)
        return Projected(history[-1].event_id, len(events))

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

    async def _fetch(self, workflow_id: str, run_key: UUID) -> list[HistoryEvent]:
        execution = WorkflowExecution(workflow_id=workflow_id, run_id=str(run_key))
        history: list[HistoryEvent] = []
        token = b""
        while True:
            request = GetWorkflowExecutionHistoryRequest(
                namespace=self._client.namespace, execution=execution, next_page_token=token
            )
            try:
                async with bounded_call(self._seconds):
                    page = await self._client.workflow_service.get_workflow_execution_history(
                        request, retry=True, timeout=timedelta(seconds=self._seconds)
                    )
            except RPCError as error:
                if is_unknown_run(error):
                    return []
                raise translate(error) from error
            history.extend(page.history.events)
            token = page.next_page_token
            if not token:
                return history

    async def _events(
        self, history: list[HistoryEvent], workflow_id: str, run_key: UUID
    ) -> Sequence[TrackerEvent]:
        namespace = self._client.namespace
        converter = self._client.data_converter.with_context(
            WorkflowSerializationContext(namespace=namespace, workflow_id=workflow_id)
        )
        clear = None
        if converter.payload_codec is not None:
            clear = await clear_payloads(
                history,
                converter.payload_codec,
                namespace=namespace,
                workflow_id=workflow_id,
                run_key=run_key,
                policy=self._policy,
                ref_rules=self._ref_rules,
            )

        def projected() -> list[TrackerEvent]:
            return project(
                history,
                namespace=namespace,
                workflow_id=workflow_id,
                run_key=run_key,
                policy=self._policy,
                projected_at=datetime.now(UTC),
                clear=clear,
                ref_rules=self._ref_rules,
            )

        events = projected() if len(history) < LARGE else await asyncio.to_thread(projected)
        known = await known_runs(self._database, namespace, [run_key])
        return _under_id(events, known[run_key].id) if run_key in known else events

    async def _write(self, events: Sequence[TrackerEvent], run_key: UUID) -> None:
        encoded = await asyncio.to_thread(encode_events, events)
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


def _under_id(events: Sequence[TrackerEvent], run_id: UUID) -> list[TrackerEvent]:
    """The events with the id under which the tables know the run: they may know it from somebody
    who could read a memo that we cannot."""
    return [
        replace(event, run=replace(event.run, id=run_id)) if isinstance(event, RunEvent) else event
        for event in events
    ]
