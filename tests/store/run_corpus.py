"""A few hundred runs of every sort, and the meaning of a filter in plain Python."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tracker.core.ids import new_id
from tracker.core.status import CLOSED_RUN_STATUSES, RunStatus
from tracker.models.wire import RunFilter
from tracker.store.database import AsyncConnection, Database

START = datetime(2026, 3, 1, tzinfo=UTC)
SPAN = timedelta(hours=6)
TYPES = ("Order", "Email", "Report")
QUEUES = ("orders", "mail")
LABELS = {"tier": ("gold", "silver", "true"), "region": ("eu", "us"), "n": ("1", "2.50")}
REFS = tuple((kind, f"{kind}-{n}") for kind in ("order", "tenant") for n in range(4))


@dataclass(frozen=True)
class StoredRun:
    """A run as the filters see it."""

    id: UUID
    ordered_at: datetime
    namespace: str
    workflow_type: str
    workflow_id: str
    task_queue: str
    status: RunStatus
    started_at: datetime | None
    finished_at: datetime | None
    refs: frozenset[tuple[str, str]]
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def passes(self, filters: RunFilter) -> bool:
        """Whether the filter lets it through; says nothing about pages."""
        return (
            self._has_ref(filters.ref_type, filters.ref_id)
            and all(self.labels.get(key) in values for key, values in filters.metadata.items())
            and (not filters.workflow_type or self.workflow_type in filters.workflow_type)
            and (not filters.status or self.status in filters.status)
            and filters.workflow_id in (None, self.workflow_id)
            and filters.task_queue in (None, self.task_queue)
            and _within(self.started_at, filters.started_after, filters.started_before)
            and _within(self.finished_at, filters.finished_after, filters.finished_before)
        )

    def _has_ref(self, ref_type: str | None, ref_id: str | None) -> bool:
        if ref_type is None:
            return True
        return any(kind == ref_type and ref_id in (None, key) for kind, key in self.refs)


def some_runs(count: int, seed: int = 1) -> list[StoredRun]:
    """Runs of two namespaces, some with the same `ordered_at`, some started long after it."""
    chance = random.Random(seed)
    return [_run(chance) for _ in range(count)]


def _run(chance: random.Random) -> StoredRun:
    ordered_at = START + SPAN * (chance.randrange(200) / 200)
    status = chance.choice(tuple(RunStatus))
    started_at = ordered_at + timedelta(milliseconds=chance.randrange(900))
    if chance.random() < 0.1:
        # After an outage, or by a clock that is ahead or behind.
        started_at = ordered_at + timedelta(minutes=chance.uniform(-90, 240))
    never_started = status in (RunStatus.ACCEPTED, RunStatus.REJECTED)
    finished_at = max(started_at, ordered_at) + timedelta(minutes=chance.expovariate(0.05))
    if chance.random() < 0.02:
        finished_at = ordered_at - timedelta(minutes=5)
    return StoredRun(
        id=new_id(),
        ordered_at=ordered_at,
        namespace="elsewhere" if chance.random() < 0.1 else "default",
        workflow_type=chance.choice(TYPES),
        workflow_id=f"workflow-{chance.randrange(60)}",
        task_queue=chance.choice(QUEUES),
        status=status,
        started_at=None if never_started else started_at,
        finished_at=finished_at if status in CLOSED_RUN_STATUSES else None,
        refs=frozenset(chance.sample(REFS, chance.randrange(4))),
        labels={k: chance.choice(v) for k, v in LABELS.items() if chance.random() < 0.7},
    )


async def store_runs(database: Database, runs: list[StoredRun]) -> None:
    """Insert them as the recorder would leave them."""
    async with database.transaction() as connection:
        for run in runs:
            await _insert(connection, database, run)


async def _insert(connection: AsyncConnection, database: Database, run: StoredRun) -> None:
    primary = min(run.refs, default=(None, None))
    columns: dict[str, Any] = {
        "id": run.id,
        "namespace": run.namespace,
        "engine": "temporal",
        "run_key": None if run.started_at is None else new_id(),
        "workflow_type": run.workflow_type,
        "workflow_id": run.workflow_id,
        "task_queue": run.task_queue,
        "ref_type": primary[0],
        "ref_id": primary[1],
        "status": run.status,
        "status_version": 1,
        "ordered_at": run.ordered_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "metadata": Jsonb(run.labels),
    }
    names = ", ".join(columns)
    values = ", ".join(f"%({name})s" for name in columns)
    await connection.execute(
        database.sql(f"INSERT INTO {{schema}}.run ({names}) VALUES ({values})"), columns
    )
    for ref_type, ref_id in run.refs:
        await connection.execute(
            database.sql("INSERT INTO {schema}.run_ref VALUES (%s, %s, %s, %s, %s)"),
            [run.id, run.namespace, ref_type, ref_id, run.ordered_at],
        )
    for key, value in run.labels.items():
        await connection.execute(
            database.sql("INSERT INTO {schema}.run_label VALUES (%s, %s, %s, %s, %s)"),
            [run.id, key, value, run.namespace, run.ordered_at],
        )


def _within(moment: datetime | None, after: datetime | None, before: datetime | None) -> bool:
    if after is None and before is None:
        return True
    if moment is None:
        return False
    return (after is None or moment >= after) and (before is None or moment < before)
