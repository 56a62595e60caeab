"""Runs with all that is nested in them, for those who want a page of it at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from tracker.core.status import RunStatus
from tracker.models.wire import PayloadRead
from tracker.store.database import AsyncConnection, Database
from tracker.store.external_runs import workflow_numbers
from tracker.store.payloads import payload_read
from tracker.store.queries import load

STEPS_PER_RUN = 500
RETRIES_MAX = 5000

Row = dict[str, Any]
_SQL = load("run_trees")
# Running runs that wait for timers alone.
_SLEEPING = (
    "(waiting_on @? '$[*] ? (@.kind == \"timer\")'"
    " AND NOT waiting_on @? '$[*] ? (@.kind != \"timer\")')"
)
_WHETHER = {
    None: "true",
    True: f"({_SLEEPING}) IS TRUE",
    False: f"(status <> 'running' OR ({_SLEEPING}) IS NOT TRUE)",
}


@dataclass(frozen=True, slots=True)
class TreeFilter:
    """Which runs, newest first.

    Attributes:
        statuses: None: any.
        sleeping: Of the running ones, those that wait for timers alone, or the others; None: both.
        ref_types: With `ref_id`; None: of any type.
    """

    statuses: frozenset[RunStatus] | None = None
    sleeping: bool | None = None
    ref_id: str | None = None
    ref_types: frozenset[str] | None = None
    limit: int = 20
    offset: int = 0


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value, and the text in which its owner wrote it, where that was kept."""

    read: PayloadRead
    text: str | None


@dataclass(frozen=True, slots=True)
class RunTree:
    """A run and what is nested in it.

    Attributes:
        steps: In their order.
        retries: Attempts after which another one followed, by step.
        values: Inputs and outputs, by id.
        workflow_number: See `store.external_runs.workflow_number`; None: not known yet.
    """

    run: Row
    steps: Sequence[Row]
    retries: dict[UUID, list[Row]]
    values: dict[UUID, StoredValue]
    workflow_number: int | None


async def list_trees(database: Database, namespace: str, asked: TreeFilter) -> list[RunTree]:
    """A page of runs, in at most seven statements whatever its size."""
    async with database.connection() as connection:
        runs = await _runs(connection, database, namespace, asked)
        return await _trees(connection, database, namespace, runs)


async def find_tree(database: Database, namespace: str, run_id: UUID) -> RunTree | None:
    """One run; None if there is none."""
    async with database.connection() as connection:
        runs = await _fetch(connection, database, "of_id", namespace=namespace, id=run_id)
        trees = await _trees(connection, database, namespace, runs)
    return trees[0] if trees else None


async def run_with_values(database: Database, namespace: str, run_id: UUID) -> RunTree | None:
    """One run without its steps."""
    async with database.connection() as connection:
        runs = await _fetch(connection, database, "of_id", namespace=namespace, id=run_id)
        if not runs:
            return None
        values = await _values(connection, database, runs, ())
        numbers = await workflow_numbers(connection, database, namespace, runs)
    return RunTree(runs[0], (), {}, values, numbers.get(_identity(runs[0])))


async def step_output(database: Database, step_id: UUID) -> tuple[int, StoredValue | None]:
    """The number of a step among those of its run, and its output."""
    async with database.connection() as connection:
        rows = await _fetch(connection, database, "step_place", id=step_id)
        if not rows:
            return 0, None
        values = await _values(connection, database, (), rows)
    return rows[0]["place"], values.get(rows[0]["output_id"])


async def _runs(
    connection: AsyncConnection, database: Database, namespace: str, asked: TreeFilter
) -> list[Row]:
    parameters: dict[str, Any] = {
        "namespace": namespace,
        "limit": asked.limit,
        "offset": asked.offset,
        "statuses": None if asked.statuses is None else sorted(asked.statuses),
        "ref_id": asked.ref_id,
        "ref_types": None if asked.ref_types is None else sorted(asked.ref_types),
    }
    if asked.ref_id is not None and asked.ref_types is None:
        rows = await _fetch(connection, database, "ref_types", namespace=namespace)
        parameters["ref_types"] = [row["ref_type"] for row in rows]
    if asked.ref_id is not None:
        name = "of_ref"
    elif asked.ref_types is not None:
        name = "of_ref_type"
    else:
        name = "newest" if asked.statuses is None else "of_statuses"
    return await _fetch(connection, database, name, asked.sleeping, **parameters)


async def _trees(
    connection: AsyncConnection, database: Database, namespace: str, runs: list[Row]
) -> list[RunTree]:
    if not runs:
        return []
    keys = [run["run_key"] for run in runs if run["run_key"] is not None]
    steps = await _fetch(
        connection, database, "steps", namespace=namespace, run_keys=keys, limit=STEPS_PER_RUN
    )
    tried = [step["id"] for step in steps if (step["attempts"] or 0) > 0]
    retries = await _fetch(connection, database, "retries", steps=tried, limit=RETRIES_MAX)
    values = await _values(connection, database, runs, steps)
    numbers = await workflow_numbers(connection, database, namespace, runs)
    by_run: defaultdict[UUID, list[Row]] = defaultdict(list)
    for step in steps:
        by_run[step["run_key"]].append(step)
    by_step: defaultdict[UUID, list[Row]] = defaultdict(list)
    for attempt in retries:
        by_step[attempt["step_id"]].append(attempt)
    return [
        RunTree(run, by_run[run["run_key"]], by_step, values, numbers.get(_identity(run)))
        for run in runs
    ]


def _identity(run: Row) -> tuple[str, str | None, str | None]:
    return run["workflow_type"], run["ref_type"], run["ref_id"]


async def _values(
    connection: AsyncConnection, database: Database, runs: Iterable[Row], steps: Iterable[Row]
) -> dict[UUID, StoredValue]:
    ids = [run[name] for run in runs for name in ("input_id", "output_id")]
    ids += [step["output_id"] for step in steps]
    wanted = sorted({key for key in ids if key is not None})
    rows = await _fetch(connection, database, "values", ids=wanted) if wanted else []
    return {row["id"]: _value(row, database) for row in rows}


def _value(row: Row, database: Database) -> StoredValue:
    verbatim = row["body"] is not None and row["data"] is not None
    text = cast("bytes", row["data"]).decode("utf-8", "replace") if verbatim else None
    return StoredValue(payload_read(row, database.options.opener), text)


async def _fetch(
    connection: AsyncConnection,
    database: Database,
    name: str,
    sleeping: bool | None = None,
    **parameters: Any,
) -> list[Row]:
    sql = database.sql(_SQL[name].replace("{sleeping}", _WHETHER[sleeping]))
    cursor = await connection.execute(sql, parameters)
    return await cursor.fetchall()
