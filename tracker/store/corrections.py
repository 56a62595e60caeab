"""Overwrites fields of stored rows with what history says, where merging cannot: somebody changed
them behind the tracker's back, so that the merge rules take the wrong value for the newer one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tracker.core.batch import Batch
from tracker.core.comparison import Difference
from tracker.core.merge import RECORDED, Row, Rule, Table
from tracker.store.contention import despite_conflicts
from tracker.store.database import AsyncConnection, Database


async def correct(database: Database, history: Batch, differences: Iterable[Difference]) -> None:
    """Set the differing fields of one run's rows to what its history says, in one transaction.

    A field that follows a version is set together with all that follow it. Rows that are missing
    are not made here: that is the projection's, which must follow.

    Args:
        history: What the run's history folds to, under the id that the rows have.
        differences: As `core.comparison.compare` found them.

    Raises:
        DatabaseUnavailable: Postgres is away.
    """
    columns: defaultdict[tuple[str, UUID], set[str]] = defaultdict(set)
    payloads: set[UUID] = set()
    for found in differences:
        if found.table == "payload":
            payloads.add(found.key)
        elif found.column != "*":
            columns[found.table, found.key].add(found.column)
            if found.column in ("input_id", "output_id") and found.stored is not None:
                # Nobody points to that value any more: no purge and no erasure would find it.
                payloads.add(found.stored)
    rows = {"run": history.runs, "step": history.steps, "attempt": history.attempts}

    async def work(connection: AsyncConnection) -> None:
        async with connection.transaction():
            for table in RECORDED:
                keys = sorted(key for name, key in columns if name == table.name)
                for key in keys:
                    names = _with_their_groups(table, columns[table.name, key])
                    await _overwrite(connection, database, table, rows[table.name][key], names)
            sql = database.sql("DELETE FROM {schema}.payload WHERE id = ANY(%s)")
            await connection.execute(sql, [sorted(payloads)])

    await despite_conflicts(database, work)


async def _overwrite(
    connection: AsyncConnection, database: Database, table: Table, row: Row, names: list[str]
) -> None:
    types = {column.name: column.type for column in table.columns}
    sets = ", ".join(f"{name} = %({name})s::{types[name]}" for name in names)
    sql = database.sql(f"UPDATE {{schema}}.{table.name} SET {sets} WHERE id = %(id)s")
    await connection.execute(
        sql, {name: _adapted(row.get(name), types[name]) for name in [*names, "id"]}
    )


def _with_their_groups(table: Table, names: set[str]) -> list[str]:
    versions = {c.version for c in table.columns if c.name in names and c.rule is Rule.GREATEST}
    return [
        c.name for c in table.columns if c.name in names or (c.version and c.version in versions)
    ]


def _adapted(value: Any, type_: str) -> Any:
    if value is None:
        return None
    if type_ == "jsonb":
        return Jsonb(value)
    return value.value if isinstance(value, Enum) else value  # psycopg would write its name.
