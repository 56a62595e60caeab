"""What `POST /v1/runs` does: resolve the type, check the input, accept, and try Temporal at once.

After the accept is committed nothing can lose the run any more; whatever happens then only decides
what the caller is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

from tracker.core.status import RunStatus
from tracker.errors import DatabaseUnavailable, InvalidRequest
from tracker.models.wire import RunRead, StartRun
from tracker.outbox.starting import Poison, Retry, Starter, try_start
from tracker.store.accept import (
    API_LEASE,
    Accepted,
    AcceptedStart,
    ExistingRun,
    accept,
    find_key,
)
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart
from tracker.store.run_detail import get_run
from tracker.store.run_rows import run_read
from tracker.store.workflow_types import ResolvedType, WorkflowTypeCatalog
from tracker.temporal.input_validation import InputValidator
from tracker.temporal.start_encoder import StartEncoder

logger = logging.getLogger(__name__)


LARGE = 64 * 1024
"""Bytes of a request from which on its input is checked beside the event loop: the check takes up
to a second for 1 MB of small values."""


class StartOutcome(Enum):
    """What a caller is told of a start."""

    CREATED = "created"
    """Temporal runs it."""
    ACCEPTED = "accepted"
    """It will run: Temporal did not answer in time."""
    EXISTING = "existing"
    """The idempotency key belongs to this run."""
    DUPLICATE = "duplicate"
    """The workflow id belongs to this run, and the caller asked to get that."""
    REJECTED = "rejected"
    """Temporal refused it for good; `run.error` tells why."""


@dataclass(frozen=True, slots=True)
class StartResult:
    """What came of a start.

    Attributes:
        run: The caller's run; of a duplicate, the existing one.
        rejected_id: Of a duplicate, the id under which the refused start is on record.
    """

    outcome: StartOutcome
    run: RunRead
    rejected_id: UUID | None = None


class StartService:
    """Starts runs in one namespace.

    Args:
        database: Open.
        encoder: Of that namespace.
        starter: `TemporalStarter` on a client of that namespace, which may be lazy. What it grants
            Temporal (2 s are usual) is what a caller waits before it is told `accepted`.
        lease: Seconds during which no relay takes a start; more than the starter may take.
    """

    def __init__(
        self,
        database: Database,
        encoder: StartEncoder,
        starter: Starter,
        *,
        lease: float = API_LEASE,
    ) -> None:
        self._database = database
        self._encoder = encoder
        self._starter = starter
        self._lease = lease
        self._catalog = WorkflowTypeCatalog(database, encoder.namespace)
        self._validators: dict[str, tuple[Mapping[str, Any], InputValidator]] = {}

    async def start(self, start: StartRun) -> StartResult:
        """Start a run.

        Raises:
            UnknownWorkflowType: No worker has registered the type, and no task queue was given.
            InvalidRequest: The input does not fit the registered schema.
            IdempotencyConflict: The key was used before for another request.
            DatabaseUnavailable: Nothing is accepted, or nobody knows whether it is; an idempotency
                key makes the repetition safe.
        """
        try:
            encoded = await self._encoded(start)
        except InvalidRequest:
            # It may be a repetition: what was right then need not be right any more.
            known = await self._known(start)
            if known is None:
                raise
            return await self._repeated(known.run_id)
        return await self.start_encoded(encoded)

    async def start_encoded(self, encoded: AcceptedStart) -> StartResult:
        """Start what `encoder` made; as `start` otherwise."""
        async with self._database.connection() as connection:
            schema = self._database.options.schema
            accepted = await accept(connection, schema, encoded, lease=self._lease)
        if isinstance(accepted, ExistingRun):
            return await self._repeated(accepted.run_id)
        return await self._try(encoded, accepted)

    @property
    def encoder(self) -> StartEncoder:
        """What makes the calls to Temporal."""
        return self._encoder

    async def check_input(self, workflow_type: str, arguments: list[Any]) -> None:
        """Hold arguments against the schema of a type, if workers announced one.

        Raises:
            InvalidRequest: They do not fit.
        """
        resolved = await self._catalog.resolve(workflow_type, has_queue=True)
        self._check_arguments(resolved, arguments, single=len(arguments) == 1)

    async def _encoded(self, start: StartRun) -> AcceptedStart:
        resolved = await self._catalog.resolve(
            start.workflow_type, has_queue=start.task_queue is not None
        )
        encoded = await self._encoder.encode_async(
            start, workflow_type=resolved.name, task_queue=resolved.task_queue
        )
        if len(encoded.request) < LARGE:
            self._check_input(start, resolved)
        else:
            await asyncio.to_thread(self._check_input, start, resolved)
        return encoded

    async def _known(self, start: StartRun) -> ExistingRun | None:
        """The run that has the start's idempotency key, if it has one and that is known."""
        if start.idempotency_key is None:
            return None
        digest = self._encoder.digest(start)
        async with self._database.connection() as connection:
            schema, namespace = self._database.options.schema, self._encoder.namespace
            return await find_key(connection, schema, namespace, start.idempotency_key, digest)

    def _check_input(self, start: StartRun, resolved: ResolvedType) -> None:
        self._check_arguments(resolved, start.arguments, single=start.args is None)

    def _check_arguments(
        self, resolved: ResolvedType, arguments: list[Any], *, single: bool
    ) -> None:
        schema = resolved.input_schema
        if schema is None:
            return
        known = self._validators.get(resolved.name)
        if known is None or known[0] != schema:
            known = self._validators[resolved.name] = (schema, InputValidator(schema))
        known[1].check(arguments, single=single)

    async def _try(self, encoded: AcceptedStart, accepted: Accepted) -> StartResult:
        leased = LeasedStart(
            id=encoded.id,
            namespace=encoded.namespace,
            request=encoded.request,
            on_conflict=encoded.on_conflict,
            created_at=accepted.run["accepted_at"],
            tries=1,
            is_new=True,
        )
        try:
            tried = await try_start(self._database, self._starter, leased)
        except DatabaseUnavailable:
            logger.warning(
                "the outcome of start %s cannot be stored; a relay will find it",
                encoded.id,
                extra={"event": "start.unstored", "run_id": str(encoded.id)},
            )
            return StartResult(StartOutcome.ACCEPTED, run_read(accepted.run))
        if isinstance(tried.outcome, Retry | Poison):
            return StartResult(StartOutcome.ACCEPTED, run_read(accepted.run))
        if tried.run is None:
            # Somebody else, a worker for example, has told the run's fate meanwhile.
            return await self._told(await self._get(encoded.id))
        return await self._told(run_read(tried.run))

    async def _repeated(self, run_id: UUID) -> StartResult:
        """What the start that used the key first was told, as its run stands now."""
        told = await self._told(await self._get(run_id))
        if told.outcome is StartOutcome.CREATED:
            return StartResult(StartOutcome.EXISTING, told.run)
        return told

    async def _told(self, run: RunRead) -> StartResult:
        if run.status is not RunStatus.REJECTED:
            return StartResult(StartOutcome.CREATED, run)
        if run.duplicate_of is None:
            return StartResult(StartOutcome.REJECTED, run)
        existing = await self._get(run.duplicate_of)
        return StartResult(StartOutcome.DUPLICATE, existing, rejected_id=run.run_id)

    async def _get(self, run_id: UUID) -> RunRead:
        return await get_run(self._database, self._encoder.namespace, run_id)
