"""Brings in runs that nobody recorded: from before the tracker was installed, or of other SDKs.

Nothing is kept of how far it came, for the tables know it: what is there to the end of its history
is skipped, so the same command goes on where it was cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client
from temporalio.service import RPCError

from tracker.errors import TrackerError, TransientError
from tracker.store.database import Database
from tracker.store.reconcile import KnownRun, known_runs
from tracker.temporal.executions import PAGE_SIZE, is_open, list_executions
from tracker.temporal.history_files import read_history
from tracker.temporal.projector import Projected, Projector
from tracker.temporal.rpc import translate
from tracker.temporal.scope import Selection

REASONS_MAX = 20
"""Failures that a report tells with their reasons; further ones are only counted."""
PAGE_SECONDS = 60.0
"""What one page of a visibility query may take, repetitions included."""


@dataclass(slots=True)
class BackfillReport:
    """What a backfill did.

    Attributes:
        seen: Runs that the query found, or files.
        there: Runs that were on record to the end of their history.
        excluded: Runs of types that are not tracked.
        projected: Runs brought in.
        history_events: Read for that.
        vanished: Runs that Temporal listed and had no history of any more.
        failed: Runs or files that could not be brought in.
        reasons: Of the first of them: which, and why.
    """

    seen: int = 0
    there: int = 0
    excluded: int = 0
    projected: int = 0
    history_events: int = 0
    vanished: int = 0
    failed: int = 0
    reasons: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def fail(self, what: str, error: Exception) -> None:
        """Note what could not be brought in."""
        self.failed += 1
        if len(self.reasons) < REASONS_MAX:
            told = error.message if isinstance(error, TrackerError) else f"{error!r}"
            self.reasons.append((what, told))


class Backfill:
    """Brings runs of a client's namespace into the tables.

    Args:
        projector: Open.
        selection: Which workflow types are tracked.
        concurrency: Histories fetched at once.
        dry_run: Only count.
        on_progress: Called with the report after each page or file.
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        projector: Projector,
        *,
        selection: Selection | None = None,
        concurrency: int = 8,
        dry_run: bool = False,
        on_progress: Callable[[BackfillReport], None] = lambda _: None,
    ) -> None:
        self.report = BackfillReport()
        self._client = client
        self._database = database
        self._projector = projector
        self._selection = selection or Selection()
        self._room = asyncio.Semaphore(concurrency)
        self._dry_run = dry_run
        self._on_progress = on_progress

    async def from_temporal(self, query: str = "", limit: int | None = None) -> BackfillReport:
        """Bring in what a visibility query finds, newest first.

        Args:
            query: In Temporal's list filter language; empty: all runs.
            limit: Runs to look at, at most.

        Raises:
            InvalidRequest: Temporal does not understand the query.
            TransientError: Temporal or the database is away; the same call goes on.
        """
        async for page in self._pages(query, limit):
            await self._take_in(page)
            self._on_progress(self.report)
        return self.report

    async def from_files(
        self, paths: Iterable[Path], *, workflow_id: str | None = None
    ) -> BackfillReport:
        """Bring in history dumps; see `history_files`.

        Args:
            workflow_id: Of dumps that do not tell it.

        Raises:
            TransientError: The database is away; the same call goes on.
        """
        for path in paths:
            self.report.seen += 1
            try:
                dump = await asyncio.to_thread(read_history, path, workflow_id)
                if not self._selection.takes(dump.workflow_type):
                    self.report.excluded += 1
                elif not self._dry_run:
                    done = await self._projector.project_history(
                        dump.events, dump.workflow_id, dump.run_key
                    )
                    self._count(done)
            except TransientError:
                raise
            except Exception as error:
                self.report.fail(str(path), error)
            self._on_progress(self.report)
        return self.report

    async def _pages(
        self, query: str, limit: int | None
    ) -> AsyncIterator[list[WorkflowExecutionInfo]]:
        page: list[WorkflowExecutionInfo] = []
        try:
            found = list_executions(self._client, query, seconds=PAGE_SECONDS, patiently=True)
            async for info in found:
                if limit is not None and self.report.seen + len(page) >= limit:
                    break
                page.append(info)
                if len(page) == PAGE_SIZE:
                    yield page
                    page = []
        except RPCError as error:
            raise translate(error) from error
        if page:
            yield page

    async def _take_in(self, page: Sequence[WorkflowExecutionInfo]) -> None:
        self.report.seen += len(page)
        taken = [info for info in page if self._selection.takes(info.type.name)]
        self.report.excluded += len(page) - len(taken)
        keys = [UUID(info.execution.run_id) for info in taken]
        known = await known_runs(self._database, self._client.namespace, keys)
        wanted = [
            info
            for info, key in zip(taken, keys, strict=True)
            if not _is_there(known.get(key), info)
        ]
        self.report.there += len(taken) - len(wanted)
        if self._dry_run:
            return
        outcomes = await asyncio.gather(*map(self._project, wanted), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _project(self, info: WorkflowExecutionInfo) -> None:
        execution = info.execution
        async with self._room:
            try:
                done = await self._projector.project_run(
                    execution.workflow_id, UUID(execution.run_id)
                )
            except TransientError:
                raise
            except Exception as error:
                self.report.fail(f"{execution.workflow_id} {execution.run_id}", error)
                return
        if done is None:
            self.report.vanished += 1
        else:
            self._count(done)

    def _count(self, done: Projected) -> None:
        self.report.projected += 1
        self.report.history_events += done.history_length


def _is_there(known: KnownRun | None, info: WorkflowExecutionInfo) -> bool:
    """An open run that is known is the reconciler's; visibility tells the length of closed ones."""
    if known is None:
        return False
    return is_open(info) or (known.projected_length or 0) >= info.history_length
