"""Refs of runs already on record: which runs a rule may speak about, and setting what it says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import orjson

from tracker.core.columns import REF_FROM_RULE
from tracker.core.ids import Ref
from tracker.store.database import Database
from tracker.store.queries import load

BATCH = 500
"""Runs read at once, and at most changed in one statement."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run whose primary ref a rule may set: its memo gave none.

    Attributes:
        ref: Its primary ref now.
        input_args: Its arguments; None where they were not kept in clear.
    """

    id: UUID
    workflow_type: str
    workflow_id: str
    ordered_at: datetime
    ref: Ref | None
    input_args: list[Any] | None


async def candidates(database: Database, namespace: str) -> AsyncIterator[list[Candidate]]:
    """All such runs of a namespace, newest first, in batches."""
    place: dict[str, Any] = {"after_at": None, "after_id": None}
    fixed = {"namespace": namespace, "rule": REF_FROM_RULE, "limit": BATCH}
    while True:
        async with database.connection() as connection:
            sql = database.sql(load("refs")["candidates"])
            rows = await (await connection.execute(sql, fixed | place)).fetchall()
        if rows:
            yield [_candidate(row) for row in rows]
        if len(rows) < BATCH:
            return
        place = {"after_at": rows[-1]["ordered_at"], "after_id": rows[-1]["id"]}


async def set_from_rules(database: Database, refs: Mapping[UUID, Ref]) -> int:
    """Set primary refs that rules found, where nothing stronger than a rule gave the run its ref.

    Args:
        refs: By run id, at most `BATCH`.

    Returns:
        How many runs changed.
    """
    given = [
        {"id": run_id, "ref_type": ref.ref_type, "ref_id": ref.ref_id}
        for run_id, ref in refs.items()
    ]
    parameters = {"refs": orjson.dumps(given).decode(), "rule": REF_FROM_RULE}
    async with database.connection() as connection:
        sql = database.sql(load("refs")["set_from_rules"])
        row = await (await connection.execute(sql, parameters)).fetchone()
    return 0 if row is None else int(row["changed"])


def _candidate(row: Mapping[str, Any]) -> Candidate:
    has_ref = row["ref_type"] is not None
    return Candidate(
        id=row["id"],
        workflow_type=row["workflow_type"],
        workflow_id=row["workflow_id"],
        ordered_at=row["ordered_at"],
        ref=Ref(row["ref_type"], row["ref_id"]) if has_ref else None,
        input_args=_arguments(row["input"]),
    )


def _arguments(body: str | None) -> list[Any] | None:
    try:
        kept: Any = None if body is None else json.loads(body)
    except ValueError:  # A number of more digits than Python reads.
        return None
    return cast("list[Any]", kept) if isinstance(kept, list) else None
