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
from tracker.models.filters import RunFilter
from tracker.store.database import AsyncConnection, Database

START = datetime(2026, 3, 1, tzinfo=UTC)
SPAN = timedelta(hours=6)
TYPES = ("Order", "Email", "Report")
QUEUES = ("orders", "mail")
BUILDS = ("1.0", "1.1")
STEPS = ("charge", "ship")
PARENTS = tuple(UUID(f"019ca9a1-0000-7000-8000-00000000000{n}") for n in (1, 2))
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
    run_key: UUID | None = None
    build_id: str | None = None
    parent: UUID | None = None
    rerun_of: UUID | None = None
    failed_steps: frozenset[tuple[str, str]] = frozenset()
    waits_for: str | None = None

    @property
    def is_open(self) -> bool:
        return self.finished_at is None

    @property
    def duration(self) -> float | None:
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    def passes(self, filters: RunFilter) -> bool:
        """Whether the filter lets it through; says nothing about pages."""
        return (
            self._has_ref(filters.ref_type, filters.ref_id)
            and all(self.labels.get(key) in values for key, values in filters.metadata.items())
            and (not filters.workflow_type or self.workflow_type in filters.workflow_type)
            and (not filters.status or self.status in filters.status)
            and filters.workflow_id in (None, self.workflow_id)
            and filters.task_queue in (None, self.task_queue)
            and filters.build_id in (None, self.build_id)
            and filters.parent in (None, self.parent)
            and not (filters.roots_only and self.parent is not None)
            and filters.rerun_of in (None, self.rerun_of)
            and self._fails(filters)
            and (
                filters.waiting_on is None
                or (self.is_open and filters.waiting_on == self.waits_for)
            )
            and _lasted(self.duration, filters.min_duration, filters.max_duration)
            and _within(self.started_at, filters.started_after, filters.started_before)
            and _within(self.finished_at, filters.finished_after, filters.finished_before)
        )

    def _fails(self, filters: RunFilter) -> bool:
        ended = {name for name, status in self.failed_steps if status == "failed"}
        tried = {name for name, status in self.failed_steps if status == "scheduled"}
        if filters.failed_step is not None and filters.failed_step not in ended:
            return False
        return not filters.retrying or (bool(tried) and self.is_open)

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
        run_key=None if never_started else new_id(),
        build_id=chance.choice((*BUILDS, None)),
        parent=chance.choice((*PARENTS, None, None)),
        rerun_of=chance.choice((PARENTS[0], None, None, None)),
        failed_steps=frozenset() if never_started else _failed_steps(chance),
        waits_for=chance.choice(("timer", "signal", None)),
    )


def _failed_steps(chance: random.Random) -> frozenset[tuple[str, str]]:
    names = [name for name in STEPS if chance.random() < 0.2]
    return frozenset((name, chance.choice(("failed", "scheduled", "completed"))) for name in names)


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
        "run_key": run.run_key,
        "build_id": run.build_id,
        "parent_run_key": run.parent,
        "rerun_of": run.rerun_of,
        "waiting_on": None if run.waits_for is None else Jsonb([{"kind": run.waits_for}]),
        "waiting_on_at": None if run.waits_for is None else run.ordered_at,
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
    for name, status in run.failed_steps:
        await connection.execute(
            database.sql(
                "INSERT INTO {schema}.step_failure (step_id, namespace, run_key, workflow_type,"
                " kind, name, status, attempts, error_type, error_message, first_at, seen_at,"
                " run_id, ordered_at)"
                " VALUES (%s, %s, %s, %s, 'activity', %s, %s, 2, 'Boom', 'no', %s, %s, %s, %s)"
            ),
            [
                new_id(),
                run.namespace,
                run.run_key,
                run.workflow_type,
                name,
                status,
                *[run.ordered_at] * 2,
                run.id,
                run.ordered_at,
            ],
        )
    for key, value in run.labels.items():
        await connection.execute(
            database.sql("INSERT INTO {schema}.run_label VALUES (%s, %s, %s, %s, %s)"),
            [run.id, key, value, run.namespace, run.ordered_at],
        )


def _lasted(seconds: float | None, at_least: float | None, at_most: float | None) -> bool:
    if at_least is None and at_most is None:
        return True
    if seconds is None:
        return False
    return (at_least is None or seconds >= at_least) and (at_most is None or seconds <= at_most)


def _within(moment: datetime | None, after: datetime | None, before: datetime | None) -> bool:
    if after is None and before is None:
        return True
    if moment is None:
        return False
    return (after is None or moment >= after) and (before is None or moment < before)
