"""A tracked client on a database and a namespace of its own, and what its workers recorded."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Identifier
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

from tracker.core.events import TrackerEvent
from tracker.core.fold import fold
from tracker.core.payloads import PayloadPolicy
from tracker.recorder.options import RecorderOptions
from tracker.store.database import DatabaseOptions
from tracker.store.record import write_batch
from tracker.temporal.history import clear_payloads, project
from tracker.temporal.plugin import TrackerPlugin

SOON = timedelta(seconds=20)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=20), backoff_coefficient=1.0)
PATIENT = 5.0
"""Seconds that an attempt's end may wait for its flush; a busy machine is no reason to fail."""

_OFTEN = timedelta(milliseconds=50)
"""Cancellations reach an activity in the answer to a heartbeat, which the SDK sends that often."""

GRACE = timedelta(milliseconds=500)
"""Without it the SDK's shutdown hangs, now and then, if an activity ends in that very moment."""

_TASK_TIMEOUT = timedelta(seconds=3)
"""After it, a workflow task that a worker took and did not live to do goes to somebody else."""

Handle = WorkflowHandle[Any, Any]


class Recorded(SimpleNamespace):
    """A row of a view, its columns as attributes."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class RecordedStep(Recorded):
    """A row of `v_steps` with its rows of `v_attempts` as `tries`, oldest first."""

    tries: list[Recorded]

    @property
    def outcomes(self) -> list[tuple[int, str]]:
        """Number and outcome of each attempt."""
        return [(one.number, one.outcome) for one in self.tries]


class RecordedRun(Recorded):
    """A row of `v_runs` with its steps in the order in which they were asked for."""

    steps: list[RecordedStep]

    def step(self, name: str) -> RecordedStep:
        """The one step of this name."""
        (found,) = (step for step in self.steps if step.name == name)
        return found

    @property
    def statuses(self) -> list[tuple[str, str]]:
        """Name and status of each step."""
        return [(step.name, step.status) for step in self.steps]


@dataclass
class Tracked:
    """Starts workers and workflows that are tracked, and reads what was recorded.

    Attributes:
        connection: A client without the plugin, in the namespace.
        heard: Events that the recorders of this process took in.
        expects_trouble: Whether warnings and errors of the tracker belong to the test.
    """

    connection: Client
    dsn: str
    spill_dir: Path
    heard: list[TrackerEvent]
    expects_trouble: bool = False
    queue: str = field(default_factory=lambda: f"queue-{uuid.uuid4().hex[:8]}")

    @property
    def namespace(self) -> str:
        """The namespace of this test."""
        return self.connection.namespace

    def options(self, dsn: str | None = None, **given: Any) -> RecorderOptions:
        """Recorder options that wait for a slow machine, and give up soon on a database away."""
        database = DatabaseOptions(dsn or self.dsn, connect_timeout=1, statement_timeout=2)
        return RecorderOptions(
            database,
            **({"spill_dir": self.spill_dir, "retry_after": 0.2, "max_wait": PATIENT} | given),
        )

    def plugin(self, **options: Any) -> TrackerPlugin:
        """The plugin on this test's database."""
        given: dict[str, Any] = {"recorder": self.options()} | options
        return TrackerPlugin(**given)

    def client(self, **options: Any) -> Client:
        """A client with the plugin.

        Args:
            options: Of the client, where it knows them (`data_converter`, `interceptors`), else of
                the plugin.
        """
        names = ("data_converter", "interceptors", "header_codec_behavior")
        own = {name: options.pop(name) for name in names if name in options}
        plugin = options.pop("plugin", None) or self.plugin(**options)
        return Client(
            self.connection.service_client, namespace=self.namespace, plugins=[plugin], **own
        )

    @asynccontextmanager
    async def worker(
        self,
        workflows: Sequence[type],
        activities: Sequence[Callable[..., Any]] = (),
        *,
        client: Client | None = None,
        **config: Any,
    ) -> AsyncGenerator[Worker]:
        """A worker on the test's queue; what it recorded is in the database after the block."""
        given: dict[str, Any] = {
            "task_queue": self.queue,
            "max_heartbeat_throttle_interval": _OFTEN,
            "graceful_shutdown_timeout": GRACE,
        }
        given |= config
        with ThreadPoolExecutor(4) as threads:
            given.setdefault("activity_executor", threads)
            async with Worker(
                client or self.client(), workflows=workflows, activities=activities, **given
            ) as worker:
                yield worker

    async def start(
        self, workflow: Any, *args: Any, client: Client | None = None, **options: Any
    ) -> Handle:
        """Start a workflow on the test's queue, by a client without the plugin unless given."""
        given = {"id": f"w-{uuid.uuid4().hex[:8]}", "task_queue": self.queue} | options
        given = {"execution_timeout": SOON, "task_timeout": _TASK_TIMEOUT} | given
        starter = cast("Any", client or self.connection)
        return await starter.start_workflow(workflow, args=args, **given)

    async def run(self, of: Handle | str | UUID | None) -> RecordedRun:
        """The one recorded run with a Temporal run id, with its steps and attempts."""
        key = _key_of(of) if isinstance(of, WorkflowHandle) else of
        found = [run for run in await self.runs() if str(run.temporal_run_id) == str(key)]
        assert found, "not recorded"
        return found[0]

    async def runs(self) -> list[RecordedRun]:
        """All recorded runs, in the order of their start."""
        async with self._connection() as connection:
            runs, steps, attempts = [
                await self._rows(connection, view) for view in ("v_runs", "v_steps", "v_attempts")
            ]
        recorded = [RecordedRun(**run, steps=[]) for run in sorted(runs, key=_started)]
        for row in sorted(steps, key=_asked):
            step = RecordedStep(**row, tries=[])
            own = [a for a in attempts if a["step_id"] == step.step_id]
            step.tries = [Recorded(**a) for a in sorted(own, key=lambda a: a["started_at"])]
            for run in recorded:
                if run.temporal_run_id == step.temporal_run_id:
                    run.steps.append(step)
        return recorded

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """The namespace's rows of a table or view."""
        async with self._connection() as connection:
            return await self._rows(connection, table)

    async def attempts(self, steps: Sequence[UUID]) -> list[dict[str, Any]]:
        """Rows of the table `attempt` of some steps."""
        async with self._connection() as connection:
            query = "SELECT * FROM flowtrail.attempt WHERE step_id = ANY(%s)"
            return await (await connection.execute(query, [list(steps)])).fetchall()

    async def payloads(self) -> list[dict[str, Any]]:
        """All rows of the table `payload`, of other namespaces too."""
        async with self._connection() as connection:
            return await (await connection.execute("SELECT * FROM flowtrail.payload")).fetchall()

    async def events(self, of: Handle) -> Sequence[HistoryEvent]:
        """Temporal's history of the very run that a handle names."""
        exact = self.connection.get_workflow_handle(of.id, run_id=run_id_of(of))
        return (await exact.fetch_history()).events

    async def history(
        self,
        of: Handle,
        policy: PayloadPolicy | None = None,
        codec: Any = None,
        projected_at: datetime | None = None,
    ) -> list[TrackerEvent]:
        """What the run's history says."""
        events = await self.events(of)
        given: dict[str, Any] = {
            "namespace": self.namespace,
            "workflow_id": of.id,
            "run_key": _key_of(of),
            "policy": (policy or PayloadPolicy()).resolved(has_codec=codec is not None),
        }
        clear = await clear_payloads(events, codec, **given) if codec else None
        when = projected_at or datetime.now(UTC)
        return project(events, **given, projected_at=when, clear=clear)

    async def corrected(self, of: Handle, **options: Any) -> RecordedRun:
        """The run after its history was written over what was recorded live by this process;
        asserts that the other order, history first, gives the same rows."""
        live_first, key = await self.after_history(of, **options), _key_of(of)
        told = await self.history(of, **options, projected_at=live_first.projected_at)
        live = [event for event in self.heard if _run_key(event) == key]
        async with self._connection() as connection:
            await connection.execute(_FORGET, [self.namespace] * 3)
            await write_batch(connection, "flowtrail", fold(told))
            await write_batch(connection, "flowtrail", fold(live))
        history_first = await self.run(of)
        differing = _differences(_plain(live_first), _plain(history_first))
        assert not differing, f"live first, history first: {differing}"
        return history_first

    async def after_history(self, of: Handle, **options: Any) -> RecordedRun:
        """The run after its history was written over what was recorded live.

        Args:
            options: Of `history`.
        """
        async with self._connection() as connection:
            await write_batch(connection, "flowtrail", fold(await self.history(of, **options)))
        return await self.run(of)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[psycopg.AsyncConnection[DictRow]]:
        async with await psycopg.AsyncConnection[DictRow].connect(
            self.dsn, row_factory=dict_row, autocommit=True
        ) as connection:
            yield connection

    async def _rows(
        self, connection: psycopg.AsyncConnection[DictRow], table: str
    ) -> list[dict[str, Any]]:
        query = SQL("SELECT * FROM flowtrail.{} WHERE namespace = %s").format(Identifier(table))
        return await (await connection.execute(query, [self.namespace])).fetchall()


_FORGET = """
WITH runs AS (DELETE FROM flowtrail.run WHERE namespace = %s),
     steps AS (DELETE FROM flowtrail.step WHERE namespace = %s)
DELETE FROM flowtrail.attempt a USING flowtrail.step s WHERE s.id = a.step_id AND s.namespace = %s
"""


def run_id_of(handle: Handle) -> str:
    """Temporal's id of the run that a handle names, the first of its chain if started by it."""
    run_id = handle.run_id or handle.first_execution_run_id or handle.result_run_id
    assert run_id is not None
    return run_id


def _key_of(handle: Handle) -> UUID:
    return UUID(run_id_of(handle))


def _run_key(event: Any) -> UUID | None:
    for name in ("run", "step"):
        if hasattr(event, name):
            return getattr(event, name).run_key
    return event.attempt.step.run_key if hasattr(event, "attempt") else None


def _plain(run: RecordedRun) -> dict[str, Any]:
    """Every value under a readable path."""
    flat = {f"run.{name}": value for name, value in vars(run).items() if name != "steps"}
    for step in run.steps:
        path = f"{step.kind} {step.name} {step.step_id}"
        flat |= {f"{path}.{name}": value for name, value in vars(step).items() if name != "tries"}
        for one in step.tries:
            flat |= {f"{path} attempt {one.number}.{name}": v for name, v in vars(one).items()}
    # The SDK adds its own outermost frames after the interceptors have seen an error.
    return {path: _innermost(v) if path.endswith("error_stack") else v for path, v in flat.items()}


def _innermost(stack: str | None) -> str | None:
    return None if stack is None else stack[stack.rfind('File "') :]


def _differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        path: (one.get(path), other.get(path))
        for path in sorted(one.keys() | other.keys())
        if one.get(path) != other.get(path)
    }


def _started(run: dict[str, Any]) -> datetime:
    return run["started_at"] or run["ordered_at"]


def _asked(step: dict[str, Any]) -> tuple[datetime, str]:
    asked = step["scheduled_at"] or step["started_at"] or step["finished_at"]
    return asked, step["name"]
