"""A database that remembers what was asked of it, so that plans and counts can be tested."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from tracker.store.database import AsyncConnection, Database


class WatchedDatabase(Database):
    """Keeps (SQL, parameters) of every statement in `statements`."""

    statements: list[tuple[Any, Any]]

    async def __aenter__(self) -> WatchedDatabase:
        self.statements = []
        await super().__aenter__()
        return self

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        async with super().connection() as connection:
            yield cast("AsyncConnection", _Watched(connection, self.statements))

    async def explain(self, statement: tuple[Any, Any], *options: str) -> str:
        """The plan of a statement, by the planner that never scans a whole table."""
        async with super().connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off")
            sql = f"EXPLAIN ({', '.join(options or ('COSTS OFF',))}) {statement[0]}"
            cursor = await connection.execute(self.sql(sql), statement[1])
            return "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())


class _Watched:
    def __init__(self, connection: AsyncConnection, statements: list[tuple[Any, Any]]) -> None:
        self._connection = connection
        self._statements = statements

    async def execute(self, query: Any, parameters: Any = None, **how: Any) -> Any:
        self._statements.append((query, parameters))
        return await self._connection.execute(query, parameters, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
