"""How long runs and steps take, how often they fail, and in which order steps follow each other:
mined from the latest ended runs of a window.

What a reader gets wrong: these are samples. At most `RUNS` runs are looked at, the latest ones, so
that an answer costs the same whatever the tables hold; the answer says how many they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from tracker.core.status import RunStatus
from tracker.models.search import (
    GraphEdge,
    GraphNode,
    Spread,
    StatsFilter,
    StepStats,
    WorkflowGraph,
    WorkflowStats,
    WorkflowTypeStats,
)
from tracker.store import queries
from tracker.store.database import Database

RUNS = 1_000
RUNS_OF_STEPS = 500
"""Runs of which the steps are looked at too."""
ROWS = 500
"""Steps, nodes or edges of one answer."""
_SPREADS = ("duration", "queue", "execution", "backoff", "wait")
_ENDED = [
    RunStatus.COMPLETED,
    RunStatus.FAILED,
    RunStatus.CANCELED,
    RunStatus.TERMINATED,
    RunStatus.TIMED_OUT,
    RunStatus.CONTINUED_AS_NEW,
]


async def workflow_stats(database: Database, namespace: str, filters: StatsFilter) -> WorkflowStats:
    """Volume, failure rate and times of workflow types and their steps."""
    parameters = _parameters(namespace, filters.window, filters.workflow_type)
    types = await _fetch(database, "type_stats", parameters | {"sample": RUNS})
    steps = await _fetch(database, "step_stats", parameters | {"sample": RUNS_OF_STEPS})
    sampled = sum(row["runs"] for row in types)
    start = await _window_start(database, filters.window)
    truncated = sampled >= RUNS
    return WorkflowStats(
        workflow_types=[
            WorkflowTypeStats(failure_rate=row["failed"] / row["runs"], **row) for row in types
        ],
        steps=[StepStats(failure_rate=row["failed"] / row["steps"], **row) for row in steps],
        sampled=sampled,
        since=min(row["earliest"] for row in types) if truncated else start,
        truncated=truncated,
    )


async def workflow_graph(
    database: Database, namespace: str, workflow_type: str, window: float
) -> WorkflowGraph:
    """The steps of a type and how they follow each other; empty where none of its runs ended."""
    parameters = _parameters(namespace, window, workflow_type) | {"sample": RUNS_OF_STEPS}
    nodes = await _fetch(database, "graph_nodes", parameters)
    edges = await _fetch(database, "graph_edges", parameters)
    [counted] = await _fetch(database, "count_ended", parameters)
    return WorkflowGraph(
        workflow_type=workflow_type,
        runs=counted["runs"],
        nodes=[GraphNode(**row) for row in nodes],
        edges=[GraphEdge(**row) for row in edges],
    )


def _parameters(namespace: str, window: float, workflow_type: str | None) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "window": window,
        "workflow_type": workflow_type,
        "ended": [str(status) for status in _ENDED],
        "limit": ROWS,
    }


async def _window_start(database: Database, window: float) -> Any:
    async with database.connection() as connection:
        row = await (await connection.execute("SELECT now() AS now")).fetchone()
    assert row is not None
    return row["now"] - timedelta(seconds=window)


async def _fetch(database: Database, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    sql = queries.load("search")
    of_type = parameters["workflow_type"] is not None
    ended = sql["ended_runs_of_type" if of_type else "ended_runs"]
    ended = "\n".join(line for line in ended.splitlines() if not line.startswith("--"))
    async with database.connection() as connection:
        statement = database.sql(sql[name].replace("{ended}", ended))
        cursor = await connection.execute(statement, parameters, prepare=True)
        return [_with_spreads(row) for row in await cursor.fetchall()]


def _with_spreads(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: _spread(row[name]) for name in _SPREADS if name in row}


def _spread(values: Sequence[float | None] | None) -> Spread:
    if values is None:
        return Spread()
    p50, p95 = (None if value is None else float(value) for value in values)
    return Spread(p50=p50, p95=p95)
