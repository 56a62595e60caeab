"""Sees to it that the tables become what Temporal's histories say: projects every run that closes,
also those whose end no worker tells, and open runs that nobody recorded; looks after quiet ones,
and after the live feed where no API does.

One reconciler works for each namespace, wherever an advisory lock puts it; the others wait for the
lock. Two at work, which a lost connection can cause for a moment, write the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import datetime
from typing import Self

from temporalio.client import Client
from temporalio.service import RPCError

from tracker.core.payloads import PayloadPolicy
from tracker.errors import TrackerError
from tracker.feed.upkeep import FeedUpkeep
from tracker.store import reconcile
from tracker.store.advisory_lock import AdvisoryLock, advisory_lock
from tracker.store.database import Database, DatabaseOptions
from tracker.store.reconcile import Cursor
from tracker.temporal.history import RefRules
from tracker.temporal.projector import Projector
from tracker.temporal.reconcile.listed_runs import (
    ListedRuns,
    closed_at,
    closed_since,
    is_stale,
    is_unknown,
    started_at,
    started_since,
)
from tracker.temporal.reconcile.open_runs import OpenRuns
from tracker.temporal.reconcile.pace import ReconcilerCounters, ReconcilerOptions
from tracker.temporal.reconcile.projecting import Projecting
from tracker.temporal.reconcile.sweep import Sweep
from tracker.temporal.rpc import translate
from tracker.temporal.scope import Selection

logger = logging.getLogger(__name__)


class Reconciler:
    """Works in the background of `async with Reconciler(client, options):`.

    Args:
        client: Its namespace is reconciled.
        options: Where the tables are; the lock needs the direct URL.
        policy: What is kept of inputs and outputs; as the namespace's workers have it.
        ref_rules: Derives refs of runs whose memo has none.
        selection: Which workflow types are projected; our own never are.
    """

    def __init__(
        self,
        client: Client,
        options: DatabaseOptions,
        *,
        policy: PayloadPolicy | None = None,
        ref_rules: RefRules | None = None,
        selection: Selection | None = None,
        pace: ReconcilerOptions | None = None,
    ) -> None:
        self.counters = ReconcilerCounters()
        self.pace = pace or ReconcilerOptions()
        self._namespace = client.namespace
        self._options = options
        self._database = Database(options, max_connections=2)
        self._projector = Projector(client, self._database, policy=policy, ref_rules=ref_rules)
        self._projecting = Projecting(self._projector, self.pace, self.counters)
        shared = (client, self._database, self._projecting, self.pace)
        chosen = selection or Selection()
        self._closed = ListedRuns(
            *shared, chosen, query=closed_since, dated=closed_at, wants=is_stale
        )
        self._started = ListedRuns(
            *shared, chosen, query=started_since, dated=started_at, wants=is_unknown
        )
        self._open = OpenRuns(*shared, self._projector, self.counters)
        self._sweep = Sweep(*shared, self.counters)
        self._feed = FeedUpkeep(options, keep_seconds=self.pace.changes_kept)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self._reached: datetime | None = None
        self._swept = 0.0

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        self._task = asyncio.create_task(self._run(), name="flowtrail-reconciler")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        if self._task is not None:
            # What is half projected is projected again by the next reconciler.
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._projector.__aexit__()
        await self._database.__aexit__()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                name = f"flowtrail.reconciler:{self._namespace}"
                async with advisory_lock(self._options, name) as lock:
                    self._forget()
                    await self._reconcile(lock)
            except TrackerError as error:
                self._unavailable(error)
            except Exception:
                # A dead reconciler would leave runs open for ever.
                self.counters.failures += 1
                logger.exception("reconciler round failed", extra={"event": "reconciler.failed"})
            await self._rest()

    async def _reconcile(self, lock: AdvisoryLock) -> None:
        while not self._stopping.is_set():
            if await lock.hold():
                await self._round()
            await self._rest()

    async def _round(self) -> None:
        try:
            await self._catch_up()
            await self._open.follow()
            if time.monotonic() >= self._swept:
                await self._sweep.sweep()
                self._swept = time.monotonic() + self.pace.sweep
        except RPCError as error:
            raise translate(error) from error
        await self._feed.look()
        self.counters.rounds += 1
        self._warned = False

    async def _catch_up(self) -> None:
        cursor = await reconcile.get_cursor(self._database, self._namespace)
        if self._reached is not None and cursor.closed_through < self._reached:
            # The tables are those of an older backup: what was done since is undone.
            self._forget()
        started = await self._started.catch_up(cursor.started_through)
        closed = await self._closed.catch_up(cursor.closed_through)
        reached = Cursor(closed.reached, started.reached)
        self._reached = await reconcile.move_cursor(
            self._database, self._namespace, reached, closed.oldest
        )

    def _forget(self) -> None:
        """Trust nothing but the tables: while the connection was gone they may have changed."""
        self._reached = None
        self._started.forget()
        self._closed.forget()
        self._projecting.forget()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.pace.interval):
                await self._stopping.wait()

    def _unavailable(self, error: TrackerError) -> None:
        self.counters.failures += 1
        level = logging.DEBUG if self._warned else logging.WARNING
        logger.log(
            level, "cannot reconcile runs now: %s", error, extra={"event": "reconciler.away"}
        )
        self._warned = True
