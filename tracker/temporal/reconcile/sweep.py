"""Looks now and then for runs that only workers said are closed: projects those that fell through,
marks those that history can never confirm, and warns before more of them are lost to verification.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from tracker.store import reconcile
from tracker.store.database import Database
from tracker.store.reconcile import FollowedRun
from tracker.temporal.executions import describe_fully
from tracker.temporal.reconcile.pace import ReconcilerCounters, ReconcilerOptions
from tracker.temporal.reconcile.projecting import Projecting
from tracker.temporal.rpc import CALL_SECONDS, bounded_call

logger = logging.getLogger(__name__)

PAGE = 100
PAGES = 10
"""In one sweep; the next one goes on."""
NEAR = 0.75
"""Part of the namespace's retention after which an unconfirmed close is near its expiry."""


class Sweep:
    """Sweeps a namespace."""

    def __init__(
        self,
        client: Client,
        database: Database,
        projecting: Projecting,
        pace: ReconcilerOptions,
        counters: ReconcilerCounters,
    ) -> None:
        self._client = client
        self._database = database
        self._projecting = projecting
        self._pace = pace
        self._counters = counters
        self._after: FollowedRun | None = None

    async def sweep(self) -> None:
        """Look after the next unconfirmed runs.

        Raises:
            TransientError: Temporal or the database is away.
            RPCError: As Temporal answers.
        """
        before = self._counters.unverifiable
        for _ in range(PAGES):
            runs = await self._unverified(self._after, self._pace.overlap)
            for run in runs:
                await self._look_at(run)
            self._after = runs[-1] if len(runs) == PAGE else None
            if self._after is None:
                break
        marked = self._counters.unverifiable - before
        if marked:
            logger.warning(
                "%d runs are unverifiable: Temporal deleted their histories before they were read",
                marked,
                extra={"event": "run.unverifiable", "runs": marked},
            )
        await self._warn_of_expiry()

    async def _look_at(self, run: FollowedRun) -> None:
        async with bounded_call():
            answer = await describe_fully(
                self._client, run.workflow_id, str(run.run_key), seconds=CALL_SECONDS
            )
        if answer is not None:
            await self._projecting.project(run.workflow_id, run.run_key)
            return
        marked = await reconcile.mark_unverifiable(self._database, run.id)
        self._counters.unverifiable += marked

    async def _warn_of_expiry(self) -> None:
        near = await self._unverified(None, NEAR * (await self._retention()).total_seconds())
        if near:
            many = "at least " if len(near) == PAGE else ""
            logger.warning(
                "%s%d closed runs have not been confirmed and their histories expire soon; look "
                "for earlier errors of the reconciler, or run `flowtrail verify --repair`",
                many,
                len(near),
                extra={"event": "run.expiring", "runs": len(near)},
            )

    async def _unverified(self, after: FollowedRun | None, older_than: float) -> list[FollowedRun]:
        return await reconcile.unverified_runs(
            self._database,
            self._client.namespace,
            after=after,
            older_than=older_than,
            limit=PAGE,
        )

    async def _retention(self) -> timedelta:
        request = DescribeNamespaceRequest(namespace=self._client.namespace)
        async with bounded_call():
            answer = await self._client.workflow_service.describe_namespace(request)
        return answer.config.workflow_execution_retention_ttl.ToTimedelta()
