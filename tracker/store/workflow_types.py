"""Which workflow a caller means: by its type's name or an alias, with the task queue where its
workers are and the schema of its input."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tracker.errors import UnknownWorkflowType
from tracker.store.database import Database
from tracker.store.queries import load

NEAR_NAMES = 3
"""Suggestions for a name that nobody knows."""


@dataclass(frozen=True, slots=True)
class ResolvedType:
    """A workflow type to start.

    Attributes:
        task_queue: None: only the caller can tell.
        input_schema: JSON Schema of the argument list, where a worker announced one.
    """

    name: str
    task_queue: str | None = None
    input_schema: Mapping[str, Any] | None = None


class WorkflowTypeCatalog:
    """Resolves the types of one namespace.

    Args:
        max_age: Seconds for which a found type counts; a worker that moves to another task queue
            is followed after that.
    """

    def __init__(self, database: Database, namespace: str, *, max_age: float = 1.0) -> None:
        self._database = database
        self._namespace = namespace
        self._max_age = max_age
        self._found: dict[str, tuple[float, ResolvedType]] = {}

    async def resolve(self, asked: str, *, has_queue: bool) -> ResolvedType:
        """Find a type by name or alias.

        Args:
            has_queue: Whether the caller gave a task queue; an unknown name is then taken as it is.

        Raises:
            UnknownWorkflowType: Nobody knows it; the message and `details["near"]` name similar
                ones.
        """
        known = self._found.get(asked)
        if known is not None and time.monotonic() - known[0] < self._max_age:
            return known[1]
        found = await self._find(asked)
        if found is None:
            self._found.pop(asked, None)
            if has_queue:
                return ResolvedType(asked)
            raise await self._unknown(asked)
        self._found[asked] = (time.monotonic(), found)
        return found

    async def _find(self, asked: str) -> ResolvedType | None:
        rows = await self._fetch("find_type", asked=asked)
        if not rows:
            return None
        row = rows[0]
        return ResolvedType(row["name"], row["task_queue"], row["input_schema"])

    async def _unknown(self, asked: str) -> UnknownWorkflowType:
        rows = await self._fetch("known_names")
        near = _near(asked, [name for row in rows for name in (row["name"], *row["aliases"])])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return UnknownWorkflowType(
            f"no worker has registered the workflow type {asked!r}{hint} To start it all the same, "
            "give task_queue.",
            workflow_type=asked,
            near=near,
        )

    async def _fetch(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        sql = self._database.sql(load("workflow_types")[name])
        async with self._database.connection() as connection:
            cursor = await connection.execute(sql, {"namespace": self._namespace, **parameters})
            return await cursor.fetchall()


def _near(asked: str, names: Iterable[str]) -> list[str]:
    """Similar names, whatever their case and word separators."""
    by_key = {_key(name): name for name in names}
    keys = get_close_matches(_key(asked), by_key, n=NEAR_NAMES)
    return [by_key[key] for key in keys]


def _key(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
