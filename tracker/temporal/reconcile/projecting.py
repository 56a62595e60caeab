"""Projects runs for the reconciler: many at once, and what is wrong with one holds up no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from uuid import UUID

from tracker.errors import TransientError
from tracker.temporal.projector import Projector
from tracker.temporal.reconcile.pace import ReconcilerCounters, ReconcilerOptions

logger = logging.getLogger(__name__)


class Projecting:
    """Args:
    projector: Open.
    counters: Where failures and successes are counted.
    """

    def __init__(
        self, projector: Projector, pace: ReconcilerOptions, counters: ReconcilerCounters
    ) -> None:
        self._projector = projector
        self._pace = pace
        self._counters = counters
        self._failed: dict[UUID, int] = {}

    def forget(self) -> None:
        """Give every run all its tries again."""
        self._failed.clear()

    def is_behind(self, run_key: UUID) -> bool:
        """Whether a run could not be projected and will be tried again."""
        return 0 < self._failed.get(run_key, 0) < self._pace.tries

    async def project_all(self, runs: Iterable[tuple[str, UUID]]) -> None:
        """Project runs, given by workflow id and run key.

        Raises:
            TransientError: Temporal or the database is away.
        """
        room = asyncio.Semaphore(self._pace.concurrency)

        async def bounded(workflow_id: str, run_key: UUID) -> None:
            async with room:
                await self.project(workflow_id, run_key)

        calls = [bounded(workflow_id, run_key) for workflow_id, run_key in runs]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def project(self, workflow_id: str, run_key: UUID) -> None:
        """Project a run; what is wrong with it alone is counted.

        Raises:
            TransientError: Temporal or the database is away.
        """
        if self._failed.get(run_key, 0) >= self._pace.tries:
            return
        try:
            projected = await self._projector.project_run(workflow_id, run_key)
        except TransientError:
            raise
        except Exception:
            self._counters.failures += 1
            self._failed[run_key] = self._failed.get(run_key, 0) + 1
            logger.exception(
                "Temporal run %s cannot be projected",
                run_key,
                extra={"event": "projection.failed", "temporal_run_id": str(run_key)},
            )
            return
        self._failed.pop(run_key, None)
        self._counters.projected += projected is not None
