"""Workflows (one type for one ref, over all its runs), and everything of one ref."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tracker.core.ids import Ref
from tracker.models.filters import Page, RunFilter, WorkflowFilter
from tracker.models.wire import (
    PayloadRead,
    RefOverview,
    WorkflowPage,
    WorkflowRead,
    WorkflowTypeRead,
)
from tracker.store import queries
from tracker.store.cursors import decode_cursor, encode_cursor, list_digest
from tracker.store.database import AsyncConnection, Database
from tracker.store.payloads import get_payloads
from tracker.store.run_queries import list_runs
from tracker.store.run_rows import Row

WORKFLOWS_OF_REF = 100
"""Workflow types of one ref that its overview shows."""
WORKFLOW_TYPES_MAX = 1000


async def list_workflows(
    database: Database, namespace: str, filters: WorkflowFilter
) -> WorkflowPage:
    """A page of workflows, newest first.

    `runs_count` is exact, counted in an index; a workflow without ref may hold very many runs.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    digest = list_digest("workflows", namespace, filters)
    parameters: dict[str, Any] = {
        "namespace": namespace,
        **filters.model_dump(exclude={"limit", "cursor"}),
        "limit": filters.limit + 1,
    }
    if filters.cursor is not None:
        after = decode_cursor(filters.cursor, digest)
        parameters |= {"after_at": after.at, "after_id": after.id}
    sql = database.sql(_statement(filters))
    async with database.connection() as connection:
        cursor = await connection.execute(sql, parameters, prepare=True)
        rows: list[Row] = list(await cursor.fetchall())
        page, more = rows[: filters.limit], len(rows) > filters.limit
        payloads = await _payloads(connection, database, page)
    return WorkflowPage(
        workflows=_workflows(page, payloads),
        next_cursor=encode_cursor(page[-1], digest, at="created_at") if more else None,
    )


async def runs_by_ref(
    database: Database,
    namespace: str,
    ref: Ref,
    page: Page,
    workflow_types: Sequence[str] = (),
) -> RefOverview:
    """Everything of one business object: its workflows, and a page of all runs that carry the ref,
    as their primary one or as a further link, newest first.

    Args:
        workflow_types: Only of these; none given: of all.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    kind, key = ref.ref_type, ref.ref_id
    runs_of_ref = RunFilter(
        ref_type=kind,
        ref_id=key,
        workflow_type=list(workflow_types),
        limit=page.limit,
        cursor=page.cursor,
    )
    workflows_of_ref = WorkflowFilter(
        ref_type=kind, ref_id=key, workflow_type=list(workflow_types), limit=WORKFLOWS_OF_REF
    )
    runs, workflows = await asyncio.gather(
        list_runs(database, namespace, runs_of_ref),
        list_workflows(database, namespace, workflows_of_ref),
    )
    return RefOverview(
        ref_type=kind,
        ref_id=key,
        workflows=workflows.workflows,
        runs=runs.runs,
        next_cursor=runs.next_cursor,
    )


async def list_workflow_types(database: Database, namespace: str) -> list[WorkflowTypeRead]:
    """Types that workers announced or runs had, by name; at most `WORKFLOW_TYPES_MAX`."""
    sql = database.sql(queries.load("workflows")["list_workflow_types"])
    async with database.connection() as connection:
        cursor = await connection.execute(
            sql, {"namespace": namespace, "limit": WORKFLOW_TYPES_MAX}
        )
        return [WorkflowTypeRead(**row) for row in await cursor.fetchall()]


# A workflow's runs, by the columns of run_workflow_idx in their order. `=` finds no NULL and IS NOT
# DISTINCT FROM no index, so a workflow without ref takes a branch of its own.
_WITH_REF = "r.ref_type = w.ref_type AND r.ref_id = w.ref_id"
_WITHOUT_REF = "w.ref_type IS NULL AND r.ref_type IS NULL AND r.ref_id IS NULL"
_COLUMNS = ("r.ref_type", "r.ref_id", "r.ordered_at", "r.id")


def _statement(filters: WorkflowFilter) -> str:
    branches = (_WITH_REF,) if filters.ref_type is not None else (_WITH_REF, _WITHOUT_REF)
    latest = _edge("r.id, r.status, r.ordered_at, r.output_id", "DESC", branches)
    text = queries.load("workflows")["page_of_workflows"]
    for name, part in {
        "workflows": _page(filters),
        "latest": latest,
        "oldest": _edge("r.input_id", "ASC", branches),
        "count": " + ".join(f"(SELECT count(*) {_runs(branch)})" for branch in branches),
    }.items():
        text = text.replace(f"{{{name}}}", part)
    return text


def _edge(columns: str, direction: str, branches: tuple[str, ...]) -> str:
    """The first or last run of a workflow; one branch finds it, the other nothing."""
    order = ", ".join(f"{column} {direction}" for column in _COLUMNS)
    return " UNION ALL ".join(
        f"(SELECT {columns} {_runs(branch)} ORDER BY {order} LIMIT 1)" for branch in branches
    )


def _runs(branch: str) -> str:
    return (
        "FROM {schema}.run r WHERE r.namespace = w.namespace"
        f" AND r.workflow_type = w.workflow_type AND {branch}"
    )


def _page(filters: WorkflowFilter) -> str:
    """The workflows in question, each type a branch in the order and up to the page's length."""
    conditions = ["w.namespace = %(namespace)s"]
    if filters.ref_type is not None:
        conditions.append("w.ref_type = %(ref_type)s AND w.ref_id = %(ref_id)s")
    if filters.workflow_type:
        conditions.append("w.workflow_type = t.name")
    if filters.cursor is not None:
        conditions.append("(w.created_at, w.id) < (%(after_at)s, %(after_id)s)")
    order = "ORDER BY w.created_at DESC, w.id DESC LIMIT %(limit)s"
    branch = f"(SELECT w.* FROM {{schema}}.workflow w WHERE {' AND '.join(conditions)} {order})"
    if not filters.workflow_type:
        return branch
    names = "(SELECT DISTINCT name FROM unnest(%(workflow_type)s::text[]) AS u(name)) t"
    return f"(SELECT w.* FROM {names} CROSS JOIN LATERAL {branch} w {order})"


async def _payloads(
    connection: AsyncConnection, database: Database, rows: list[Row]
) -> dict[UUID | None, PayloadRead]:
    ids = [row[name] for row in rows for name in ("first_input_id", "latest_output_id")]
    return await get_payloads(connection, database, ids)


def _workflows(rows: list[Row], payloads: dict[UUID | None, PayloadRead]) -> list[WorkflowRead]:
    return [
        WorkflowRead(
            workflow_type=row["workflow_type"],
            ref_type=row["ref_type"],
            ref_id=row["ref_id"],
            metadata=row["metadata"],
            created_at=row["created_at"],
            runs_count=row["runs_count"],
            latest_run_id=row["latest_run_id"],
            latest_status=row["latest_status"],
            latest_ordered_at=row["latest_ordered_at"],
            first_input=payloads.get(row["first_input_id"]),
            latest_output=payloads.get(row["latest_output_id"]),
        )
        for row in rows
        # A workflow whose only run got its ref later has none left.
        if row["latest_run_id"] is not None
    ]
