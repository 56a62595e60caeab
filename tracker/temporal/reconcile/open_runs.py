"""Looks after runs that the tables have held open for a while, some in each round, in turn: has one
closed unseen, has its history grown, what does it wait for, which attempts are long over."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from uuid import UUID

from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client

from tracker.core.waiting import Pending, waiting_on
from tracker.store import reconcile
from tracker.store.database import Database
from tracker.store.reconcile import FollowedRun, OpenStep, Waiting
from tracker.temporal.executions import describe_fully, is_open
from tracker.temporal.projector import Projector
from tracker.temporal.reconcile.pace import ReconcilerCounters, ReconcilerOptions
from tracker.temporal.reconcile.pending import ended_attempts, pending_of
from tracker.temporal.reconcile.pollers import Pollers
from tracker.temporal.reconcile.projecting import Projecting
from tracker.temporal.rpc import CALL_SECONDS, bounded_call
from tracker.temporal.task_queues import WORKFLOWS

logger = logging.getLogger(__name__)

LONG_HISTORY = 5_000
"""History events from which on a run is projected at its close alone, not again and again."""

Described = tuple[FollowedRun, DescribeWorkflowExecutionResponse]


class OpenRuns:
    """Follows the open runs of a namespace."""

    def __init__(
        self,
        client: Client,
        database: Database,
        projecting: Projecting,
        pace: ReconcilerOptions,
        projector: Projector,
        counters: ReconcilerCounters,
    ) -> None:
        self._client = client
        self._database = database
        self._projecting = projecting
        self._pace = pace
        self._projector = projector
        self._policy = projector.reader.policy
        self._counters = counters
        self._pollers = Pollers(client)
        self._followed: FollowedRun | None = None
        self._looked: dict[UUID, float] = {}

    async def follow(self) -> None:
        """Look after the next runs.

        Raises:
            TransientError: Temporal or the database is away.
            RPCError: As Temporal answers.
        """
        runs = await reconcile.open_runs(
            self._database,
            self._client.namespace,
            after=self._followed,
            older_than=self._pace.quiet,
            limit=self._pace.budget,
        )
        self._followed = runs[-1] if len(runs) == self._pace.budget else None
        due = self._due(runs)
        if not due:
            return
        described = await self._described(due)
        grown = [run for run, answer in described if _has_grown(run, answer)]
        await self._projecting.project_all((run.workflow_id, run.run_key) for run in grown)
        await self._note([(run, answer) for run, answer in described if _is_open(answer)])

    def _due(self, runs: list[FollowedRun]) -> list[FollowedRun]:
        now = time.monotonic()
        soon = now - self._pace.quiet
        self._looked = {key: at for key, at in self._looked.items() if at > soon}
        due = [run for run in runs if run.run_key not in self._looked]
        self._looked |= {run.run_key: now for run in due}
        return due

    async def _described(self, runs: list[FollowedRun]) -> list[Described]:
        room = asyncio.Semaphore(self._pace.concurrency)

        async def look(run: FollowedRun) -> Described | None:
            async with room, bounded_call():
                answer = await describe_fully(
                    self._client, run.workflow_id, str(run.run_key), seconds=CALL_SECONDS
                )
            if answer is None:
                await self._lose(run)
                return None
            return run, answer

        found: list[Described] = []
        for outcome in await asyncio.gather(*map(look, runs), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                found.append(outcome)
        return found

    async def _lose(self, run: FollowedRun) -> None:
        self._counters.lost += await reconcile.mark_lost(self._database, run.id)
        logger.warning(
            "run %s is lost: Temporal has nothing of it any more",
            run.id,
            extra={"event": "run.lost", "run_id": str(run.id)},
        )

    async def _note(self, described: list[Described]) -> None:
        if not described:
            return
        namespace = self._client.namespace
        run_keys = [run.run_key for run, _ in described]
        steps = await reconcile.open_steps(self._database, namespace, run_keys)
        questions = self._pace.questions
        waiting: list[Waiting] = []
        for run, answer in described:
            own = steps.get(run.run_key, [])
            await self._tell_ended(run, answer, own)
            pending = await self._pollers.completed(pending_of(answer, own, self._policy))
            if pending.is_idle:
                pending, asked = await self._with_names(run, answer, pending, questions)
                questions -= asked
            waiting.append(Waiting(run.id, waiting_on(pending), pending.paused_at))
        await reconcile.note_waiting(self._database, waiting)

    async def _tell_ended(
        self,
        run: FollowedRun,
        answer: DescribeWorkflowExecutionResponse,
        steps: list[OpenStep],
    ) -> None:
        ended = list(ended_attempts(self._client.namespace, answer, steps, self._policy))
        if ended:
            await self._projector.write(ended, run.run_key)

    async def _with_names(
        self,
        run: FollowedRun,
        answer: DescribeWorkflowExecutionResponse,
        pending: Pending,
        questions: int,
    ) -> tuple[Pending, bool]:
        """With the messages that its code takes, and whether a worker was asked for them."""
        info = answer.workflow_execution_info
        asked = False
        if questions > 0 and not self._pollers.was_asked(run.run_key, info.history_length):
            asked = await self._pollers.is_served(info.task_queue, WORKFLOWS) is True
            if asked:
                await self._pollers.ask_names(run.workflow_id, run.run_key, info.history_length)
        names = self._pollers.names(run.run_key)
        if names is None:
            return pending, asked
        return replace(pending, signals=names[0], updates=names[1]), asked


def _is_open(answer: DescribeWorkflowExecutionResponse) -> bool:
    return is_open(answer.workflow_execution_info)


def _has_grown(run: FollowedRun, answer: DescribeWorkflowExecutionResponse) -> bool:
    """Whether its history must be read: it has closed, or says more than the tables know."""
    if not _is_open(answer):
        return True
    length = answer.workflow_execution_info.history_length
    return (run.projected_length or 0) < length <= LONG_HISTORY
