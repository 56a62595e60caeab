"""Reads a run's history and projects it: fetch, decode, project. Writes nothing.

What a reader would get wrong: under a payload codec nothing is clear here unless the policy keeps
values in clear; the codec is asked for those alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
)
from temporalio.client import Client
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError

from tracker.core.events import TrackerEvent
from tracker.core.payloads import PayloadPolicy, Treatment
from tracker.temporal.history import RefRules, clear_payloads, project
from tracker.temporal.rpc import bounded_call, is_unknown_run, translate

LARGE = 1000
"""History events from which on a history is projected beside the event loop."""

NOTHING = PayloadPolicy(Treatment.NONE)
"""For erased runs: no value, no text."""


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """What a history says.

    Attributes:
        length: Its events.
        events: Tracker events that it gives.
    """

    length: int
    events: list[TrackerEvent]


class HistoryReader:
    """Reads histories of a client's namespace.

    Args:
        policy: What is kept of inputs and outputs; as the namespace's workers have it.
        ref_rules: Derives refs of runs whose memo has none.
        seconds: What fetching one page of a history may take.
    """

    def __init__(
        self,
        client: Client,
        *,
        policy: PayloadPolicy | None = None,
        ref_rules: RefRules | None = None,
        seconds: float = 10.0,
    ) -> None:
        self.client = client
        has_codec = client.data_converter.payload_codec is not None
        self.policy = (policy or PayloadPolicy()).resolved(has_codec=has_codec)
        self._ref_rules = ref_rules
        self._seconds = seconds

    async def read(
        self, workflow_id: str, run_key: UUID, *, projected_at: datetime, erased: bool = False
    ) -> ReadHistory | None:
        """Fetch and project a run's history.

        Args:
            projected_at: By the database's clock, for no process's own enters a row.
            erased: Its values and texts must not come back.

        Returns:
            None if Temporal has no history of it (any more).

        Raises:
            TransientError: Temporal is away.
        """
        history = await self._fetch(workflow_id, run_key)
        if not history:
            return None
        policy = NOTHING if erased else self.policy
        events = await self.project(history, workflow_id, run_key, projected_at, policy)
        return ReadHistory(history[-1].event_id, events)

    async def project(
        self,
        history: Sequence[HistoryEvent],
        workflow_id: str,
        run_key: UUID,
        projected_at: datetime,
        policy: PayloadPolicy | None = None,
    ) -> list[TrackerEvent]:
        """Project a history that is at hand, from its first event on."""
        policy, namespace = policy or self.policy, self.client.namespace
        converter = self.client.data_converter.with_context(
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
                policy=policy,
                ref_rules=self._ref_rules,
            )

        def projected() -> list[TrackerEvent]:
            return project(
                history,
                namespace=namespace,
                workflow_id=workflow_id,
                run_key=run_key,
                policy=policy,
                projected_at=projected_at,
                clear=clear,
                ref_rules=self._ref_rules,
            )

        return projected() if len(history) < LARGE else await asyncio.to_thread(projected)

    async def _fetch(self, workflow_id: str, run_key: UUID) -> list[HistoryEvent]:
        return await read_history(self.client, workflow_id, run_key, seconds=self._seconds)


async def read_history(
    client: Client, workflow_id: str, run_key: UUID, *, seconds: float
) -> list[HistoryEvent]:
    """A run's whole history as Temporal has it; empty if it has none (any more).

    Args:
        seconds: What one page may take.

    Raises:
        TransientError: Temporal is away.
    """
    history: list[HistoryEvent] = []
    token = b""
    while True:
        page = await _page(client, workflow_id, run_key, token, seconds=seconds)
        if page is None:
            return []
        history.extend(page.history.events)
        token = page.next_page_token
        if not token:
            return history


async def read_beginning(
    client: Client, workflow_id: str, run_key: UUID, *, seconds: float
) -> HistoryEvent | None:
    """The first event of a run's history, its start; None if there is none (any more).

    Raises:
        TransientError: Temporal is away.
    """
    page = await _page(client, workflow_id, run_key, b"", seconds=seconds, size=1)
    return None if page is None else page.history.events[0]


async def _page(
    client: Client,
    workflow_id: str,
    run_key: UUID,
    token: bytes,
    *,
    seconds: float,
    size: int = 0,
) -> GetWorkflowExecutionHistoryResponse | None:
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=str(run_key)),
        next_page_token=token,
        maximum_page_size=size,
    )
    try:
        async with bounded_call(seconds):
            return await client.workflow_service.get_workflow_execution_history(
                request, retry=True, timeout=timedelta(seconds=seconds)
            )
    except RPCError as error:
        if is_unknown_run(error):
            return None
        raise translate(error) from error
