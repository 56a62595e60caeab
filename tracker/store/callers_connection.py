"""Runs our statements on connections that callers opened, inside the transactions that they have
open there; commits, rolls back and closes nothing.

Driver errors pass as they are: the transaction is the caller's, and so is the decision to retry it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import dict_row

from tracker.errors import InvalidRequest

if TYPE_CHECKING:
    from sqlalchemy import Connection as SaConnection
    from sqlalchemy.ext.asyncio import AsyncConnection as SaAsyncConnection
    from sqlalchemy.ext.asyncio import AsyncSession as SaAsyncSession
    from sqlalchemy.orm import Session as SaSession

    CallersConnection = psycopg.Connection[Any] | SaConnection | SaSession
    CallersAsyncConnection = psycopg.AsyncConnection[Any] | SaAsyncConnection | SaAsyncSession

Row = Mapping[str, Any]
Statement = tuple[LiteralString, dict[str, Any]]
Outcome = TypeVar("Outcome")


def execute(
    connection: CallersConnection, steps: Generator[Statement, Row | None, Outcome]
) -> Outcome:
    """Run statements, each of which answers with at most one row.

    Args:
        connection: psycopg `Connection`; SQLAlchemy `Connection` or `Session`, SQLModel's included.
        steps: Yields statements with parameters, wants back their rows, returns the outcome.

    Raises:
        InvalidRequest: If it is some other kind of connection.
    """
    try:
        sql, parameters = next(steps)
        while True:
            sql, parameters = steps.send(_first_row(connection, sql, parameters))
    except StopIteration as done:
        return done.value


async def execute_async(
    connection: CallersAsyncConnection, steps: Generator[Statement, Row | None, Outcome]
) -> Outcome:
    """`execute` on a psycopg `AsyncConnection`, SQLAlchemy `AsyncConnection` or `AsyncSession`."""
    try:
        sql, parameters = next(steps)
        while True:
            sql, parameters = steps.send(await _first_row_async(connection, sql, parameters))
    except StopIteration as done:
        return done.value


def _first_row(given: object, sql: LiteralString, parameters: dict[str, Any]) -> Row | None:
    if isinstance(given, psycopg.Connection):
        with given.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(sql, parameters).fetchone()
    # Imported here: who passes such a connection has SQLAlchemy, who does not need not load it.
    from sqlalchemy import Connection, text
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(given, (Session, scoped_session)):
        given = given.connection()
    if not isinstance(given, Connection):
        raise _unfit(given, "start_in_transaction_async or signal_in_transaction_async")
    row = given.execute(text(_named(sql)), parameters).mappings().first()
    return None if row is None else {str(name): value for name, value in row.items()}


async def _first_row_async(
    given: object, sql: LiteralString, parameters: dict[str, Any]
) -> Row | None:
    if isinstance(given, psycopg.AsyncConnection):
        async with given.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(sql, parameters)
            return await cursor.fetchone()
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    if isinstance(given, (AsyncSession, async_scoped_session)):
        given = await given.connection()
    if not isinstance(given, AsyncConnection):
        raise _unfit(given, "start_in_transaction or signal_in_transaction")
    row = (await given.execute(text(_named(sql)), parameters)).mappings().first()
    return None if row is None else {str(name): value for name, value in row.items()}


def _named(sql: str) -> str:
    """psycopg's named placeholders as SQLAlchemy's, which fit every driver."""
    return re.sub(r"%\((\w+)\)s", r":\1", sql)


def _unfit(connection: object, other: str) -> InvalidRequest:
    kind = type(connection)
    return InvalidRequest(
        "expected a connection or session of psycopg or SQLAlchemy, got "
        f"{kind.__module__}.{kind.__qualname__}; is it one for {other}?"
    )
