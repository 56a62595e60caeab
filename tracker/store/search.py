"""Steps that have failed, across runs: a list, and groups of what they failed of.

Both read `step_failure`, which has a row only for steps that did. What a reader gets wrong: a group
is counted over at most `SAMPLE` steps, the latest of its window, and says so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tracker.models.search import (
    FailedStepRead,
    FailureFilter,
    FailureGroup,
    Failures,
    StepFilter,
    StepPage,
)
from tracker.store import queries
from tracker.store.cursors import decode_cursor, encode_cursor, list_digest
from tracker.store.database import AsyncConnection, Database

SAMPLE = 5_000
"""Steps that groups are made of at most."""

_TEXT = "f.words @@ websearch_to_tsquery('simple', %(error_text)s)"
PROBE = 1000
"""Failures in which words are looked for first."""
COMMON = 5
"""So many of them with the words: the list goes along time, and soon has a page. Fewer: the words'
own index finds all of them, few enough to be sorted. The planner cannot tell, for it has statistics
of common words alone."""


async def failed_steps(database: Database, namespace: str, filters: StepFilter) -> StepPage:
    """A page of steps that have failed at least once, the latest failure first.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    digest = list_digest("steps", namespace, filters)
    parameters = {"namespace": namespace, **filters.model_dump(exclude={"cursor"})}
    parameters |= {"status": [str(s) for s in filters.status], "limit": filters.limit + 1}
    conditions = _conditions(filters)
    if filters.cursor is not None:
        after = decode_cursor(filters.cursor, digest)
        parameters |= {"after_at": after.at, "after_id": after.id}
        conditions.append("(f.seen_at, f.step_id) < (%(after_at)s, %(after_id)s)")
    rows = await _fetch(database, "failed_steps", conditions, parameters, filters.error_text)
    shown, more = rows[: filters.limit], len(rows) > filters.limit
    last = {"id": shown[-1]["step_id"], "at": shown[-1]["failed_at"]} if more else {}
    return StepPage(
        steps=[FailedStepRead(**row) for row in shown],
        next_cursor=encode_cursor(last, digest, at="at") if more else None,
    )


async def failures(database: Database, namespace: str, filters: FailureFilter) -> Failures:
    """Groups of failed steps: the same error type, step, and message but for ids and numbers."""
    conditions = ["f.namespace = %(namespace)s"]
    conditions.append("f.seen_at >= now() - make_interval(secs => %(window)s)")
    conditions += [
        f"f.{name} = %({name})s"
        for name in ("workflow_type", "name", "build_id")
        if getattr(filters, name) is not None
    ]
    parameters = {"namespace": namespace, "sample": SAMPLE, **filters.model_dump()}
    rows = await _fetch(database, "failures", conditions, parameters, filters.error_text)
    told = rows[0]
    truncated = told["sampled"] == SAMPLE
    start = told["now"] - timedelta(seconds=filters.window)
    return Failures(
        groups=[FailureGroup(**row) for row in rows if row["failure"] is not None],
        sampled=told["sampled"],
        since=told["earliest"] if truncated else start,
        truncated=truncated,
    )


def _conditions(filters: StepFilter) -> list[str]:
    wanted = {
        "workflow_type": "f.workflow_type = %(workflow_type)s",
        "name": "f.name = %(name)s",
        "min_attempts": "f.attempts >= %(min_attempts)s",
        "error_type": "f.error_type = %(error_type)s",
        "failure": "f.fingerprint = %(failure)s",
        "failed_after": "f.seen_at >= %(failed_after)s",
        "failed_before": "f.seen_at < %(failed_before)s",
    }
    given = [sql for name, sql in wanted.items() if getattr(filters, name) is not None]
    if filters.status:
        given.append("f.status = ANY(%(status)s)")
    return ["f.namespace = %(namespace)s", *given]


async def _fetch(
    database: Database,
    name: str,
    conditions: list[str],
    parameters: dict[str, Any],
    words: str | None,
) -> list[dict[str, Any]]:
    source, where = "{schema}.step_failure f", " AND ".join(conditions)
    async with database.connection() as connection:
        if words is not None:
            probe = await _run(connection, database, "probe_words", source, where, parameters)
            if probe[0]["found"] >= COMMON:
                where += f" AND {_TEXT}"
            else:
                # OFFSET 0: by the index of the words, then the rest.
                source = f"(SELECT * FROM {source} WHERE {_TEXT} OFFSET 0) f"
        return await _run(connection, database, name, source, where, parameters)


async def _run(
    connection: AsyncConnection,
    database: Database,
    name: str,
    source: str,
    where: str,
    parameters: dict[str, Any],
) -> list[dict[str, Any]]:
    sql = queries.load("search")[name].replace("{source}", source).replace("{conditions}", where)
    given = {"probe": PROBE, **parameters}
    cursor = await connection.execute(database.sql(sql), given, prepare=True)
    return await cursor.fetchall()
