"""How any action reaches a run: find it by our id, call Temporal about exactly that run within a
bound, tell its errors as ours, and leave an entry in the audit.

What a reader gets wrong: the tables may say "closed" on a worker's word that Temporal then refused,
so only history's word closes the door here; otherwise Temporal is asked.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tracker.core.status import CLOSED_RUN_STATUSES, Engine, RunStatus
from tracker.errors import Conflict, NotFound, TemporalUnavailable, TrackerError, TransientError
from tracker.models.wire import RunRead
from tracker.store.audit import DONE, Action, record_action
from tracker.store.database import Database
from tracker.store.run_detail import get_run
from tracker.temporal.executions import Execution, describe
from tracker.temporal.rpc import CALL_SECONDS, bounded_call, translate

logger = logging.getLogger(__name__)


class Reach:
    """The way to runs of a client's namespace.

    Args:
        database: Open.
        client: May be lazy: Temporal need not be there.
        seconds: What one call to Temporal may take.
    """

    def __init__(
        self, database: Database, client: Client, *, seconds: float = CALL_SECONDS
    ) -> None:
        self.database = database
        self.client = client
        self.seconds = seconds
        self._noted: dict[str, str] = {}

    def noting(self, **details: str) -> Reach:
        """The same way, with these details in each entry of the audit."""
        reach = Reach(self.database, self.client, seconds=self.seconds)
        reach._noted = self._noted | details
        return reach

    async def run(self, run_id: UUID) -> RunRead:
        """A run by our id or Temporal's.

        Raises:
            NotFound: There is none.
        """
        return await get_run(self.database, self.client.namespace, run_id)

    def handle(self, run: RunRead) -> Any:
        """The SDK's handle of exactly this Temporal run."""
        return self.client.get_workflow_handle(run.workflow_id, run_id=str(run.temporal_run_id))

    def execution(self, run: RunRead) -> WorkflowExecution:
        """The run as Temporal's calls name it."""
        return WorkflowExecution(workflow_id=run.workflow_id, run_id=str(run.temporal_run_id))

    async def described(self, run: RunRead) -> Execution | None:
        """What Temporal knows of the run; None: nothing (any more)."""
        run_id = str(run.temporal_run_id)
        return await describe(self.client, run.workflow_id, run_id, seconds=self.seconds)

    @asynccontextmanager
    async def calling(
        self, run: RunRead, *, closed_too: bool = False, seconds: float | None = None
    ) -> AsyncGenerator[None]:
        """One bounded call about a run; Temporal's errors come out as ours.

        Args:
            closed_too: Whether it makes sense for a run that has ended.
            seconds: In place of the usual bound.
        """
        if not closed_too:
            check_open(run)
        check_engine(run)
        if run.temporal_run_id is None:
            raise _not_started(run)
        try:
            async with bounded_call(seconds or self.seconds):
                yield
        except RPCError as error:
            raise await self._refused(run, error) from error

    @asynccontextmanager
    async def audited(
        self, action: str, run: RunRead, actor: str, reason: str | None, **details: str
    ) -> AsyncGenerator[None]:
        """Leave an entry about what is done inside, and what came of it."""
        outcome = DONE
        try:
            yield
        except TrackerError as error:
            # The code alone: a message may repeat what the payload policy keeps out of the tables.
            outcome = error.code
            raise
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            entry = Action(
                actor=actor,
                action=action,
                run_id=run.run_id,
                outcome=outcome,
                reason=reason,
                details=(self._noted | details) or None,
            )
            await self._record(entry)

    async def _refused(self, run: RunRead, error: RPCError) -> TrackerError:
        if error.status is RPCStatusCode.NOT_FOUND:
            return await self._not_found(run)
        if error.status is RPCStatusCode.FAILED_PRECONDITION:
            return TransientError(
                f"Temporal cannot carry it out now (is a worker of {run.workflow_type} running?): "
                f"{error.message}",
                run_id=str(run.run_id),
            )
        return translate(error)

    async def _not_found(self, run: RunRead) -> TrackerError:
        """Temporal says "not found" of runs that it forgot and of runs that have ended."""
        try:
            async with bounded_call(self.seconds):
                return ended(run, await self.described(run))
        except (TemporalUnavailable, RPCError):
            return ended(run, None)

    async def _record(self, action: Action) -> None:
        try:
            await record_action(self.database, self.client.namespace, action)
        except TrackerError:
            # What was done is done: its trace must be somewhere, its caller must be told.
            logger.exception(
                "not in the audit: %s",
                action,
                extra={"event": "audit.failed", "run_id": str(action.run_id)},
            )


def check_open(run: RunRead) -> None:
    """Refuse a run that is known to have ended.

    Raises:
        Conflict: It has.
    """
    has_ended = run.status in CLOSED_RUN_STATUSES
    if not has_ended or not (run.from_history or run.temporal_run_id is None):
        return
    next_run = ""
    if run.status is RunStatus.CONTINUED_AS_NEW and run.continued_to is not None:
        next_run = f"; its chain goes on as Temporal run {run.continued_to}"
    raise Conflict(
        f"run {run.run_id} has ended as {run.status}{next_run}",
        run_id=str(run.run_id),
        status=run.status,
        continued_to=None if run.continued_to is None else str(run.continued_to),
    )


def check_engine(run: RunRead) -> None:
    """Refuse a run that Temporal does not drive.

    Raises:
        Conflict: Something else does.
    """
    if run.engine is not Engine.TEMPORAL:
        raise Conflict(f"run {run.run_id} is driven by {run.engine}: Temporal cannot act on it")


def ended(run: RunRead, known: Execution | None) -> TrackerError:
    """The error for a run that Temporal does not run any more."""
    if known is not None:
        return Conflict(f"run {run.run_id} has ended", run_id=str(run.run_id))
    return NotFound(
        f"Temporal does not know run {run.run_id} any more; the tables keep what was recorded",
        run_id=str(run.run_id),
    )


def _not_started(run: RunRead) -> TrackerError:
    if run.status in CLOSED_RUN_STATUSES:
        return Conflict(
            f"run {run.run_id} never started: it is {run.status}", run_id=str(run.run_id)
        )
    return TransientError(
        f"run {run.run_id} is accepted and not yet started; try again when it is running",
        run_id=str(run.run_id),
        status=run.status,
    )
