"""Workflows (one type for one ref, over all its runs), and everything of one ref."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tracker.core.ids import Ref
from tracker.models.wire import (
    Page,
    PayloadRead,
    RefOverview,
    RunFilter,
    WorkflowFilter,
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
    asked = filters.model_dump(mode="json", exclude={"limit", "cursor"})
    digest = list_digest(list="workflows", namespace=namespace, **asked)
    parameters: dict[str, Any] = {
        "namespace": namespace,
        **filters.model_dump(exclude={"limit", "cursor"}),
        "limit": filters.limit + 1,
    }
    if filters.cursor is not None:
        after = decode_cursor(filters.cursor, digest)
        parameters |= {"after_at": after.at, "after_id": after.id}
    rows, payloads = await _fetch(database, _source(filters), parameters)
    page = rows[: filters.limit]
    return WorkflowPage(
        workflows=_workflows(page, payloads),
        next_cursor=(
            encode_cursor(page[-1], digest, at="created_at") if len(rows) > len(page) else None
        ),
    )


async def runs_by_ref(database: Database, namespace: str, ref: Ref, page: Page) -> RefOverview:
    """Everything of one business object: its workflows, and a page of all runs that carry the ref,
    as their primary one or as a further link, newest first.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    filters = RunFilter(
        ref_type=ref.ref_type, ref_id=ref.ref_id, limit=page.limit, cursor=page.cursor
    )
    runs = await list_runs(database, namespace, filters)
    of_ref = WorkflowFilter(ref_type=ref.ref_type, ref_id=ref.ref_id, limit=WORKFLOWS_OF_REF)
    workflows = await list_workflows(database, namespace, of_ref)
    return RefOverview(
        ref_type=ref.ref_type,
        ref_id=ref.ref_id,
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


def _source(filters: WorkflowFilter) -> str:
    """The workflows in question, each branch in the order and up to the length of the page."""
    conditions = ["w.namespace = %(namespace)s"]
    if filters.ref_type is not None:
        conditions.append("w.ref_type = %(ref_type)s AND w.ref_id = %(ref_id)s")
    if filters.workflow_type:
        conditions.append("w.workflow_type = t.name")
    if filters.cursor is not None:
        conditions.append("(w.created_at, w.id) < (%(after_at)s, %(after_id)s)")
    branch = (
        f"(SELECT w.* FROM {{schema}}.workflow w WHERE {' AND '.join(conditions)}"
        " ORDER BY w.created_at DESC, w.id DESC LIMIT %(limit)s)"
    )
    if not filters.workflow_type:
        return branch
    names = "(SELECT DISTINCT name FROM unnest(%(workflow_type)s::text[]) AS u(name)) t"
    return f"(SELECT w.* FROM {names} CROSS JOIN LATERAL {branch} w)"


async def _fetch(
    database: Database, source: str, parameters: dict[str, Any]
) -> tuple[list[Row], dict[UUID | None, PayloadRead]]:
    text = queries.load("workflows")["page_of_workflows"].replace("{source}", source)
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(text), parameters)
        rows: list[Row] = list(await cursor.fetchall())
        payloads = await _payloads(connection, database, rows)
    return rows, payloads


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
