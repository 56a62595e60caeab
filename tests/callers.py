"""Every kind of connection that a caller may have open: each opens one inside a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession as SaAsyncSession
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session as SaSession
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlmodel import Session as SqlModelSession
from sqlmodel.ext.asyncio.session import AsyncSession as SqlModelAsyncSession


@contextmanager
def by_psycopg(dsn: str) -> Iterator[Any]:
    with psycopg.connect(dsn) as connection:
        yield connection


@contextmanager
def by_psycopg_with_dict_rows(dsn: str) -> Iterator[Any]:
    with psycopg.Connection[DictRow].connect(dsn, row_factory=dict_row) as connection:
        yield connection


@contextmanager
def by_sqlalchemy(dsn: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(dsn))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def by_sqlalchemy_session(dsn: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(dsn))
    with SaSession(engine) as session:
        yield session
    engine.dispose()


@contextmanager
def by_scoped_session(dsn: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(dsn))
    session = scoped_session(sessionmaker(engine))
    yield session
    session.remove()
    engine.dispose()


@contextmanager
def by_sqlmodel_session(dsn: str) -> Iterator[Any]:
    engine = create_engine(sqlalchemy_url(dsn))
    with SqlModelSession(engine) as session:
        yield session
    engine.dispose()


@asynccontextmanager
async def by_async_psycopg(dsn: str) -> AsyncIterator[Any]:
    connection = await psycopg.AsyncConnection.connect(dsn)
    yield connection
    await connection.close()


@asynccontextmanager
async def by_async_sqlalchemy(dsn: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(dsn))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@asynccontextmanager
async def by_async_session(dsn: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(dsn))
    async with SaAsyncSession(engine) as session:
        yield session
    await engine.dispose()


@asynccontextmanager
async def by_async_sqlmodel_session(dsn: str) -> AsyncIterator[Any]:
    engine = create_async_engine(sqlalchemy_url(dsn))
    async with SqlModelAsyncSession(engine) as session:
        yield session
    await engine.dispose()


def sqlalchemy_url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)


SYNC = [
    by_psycopg,
    by_psycopg_with_dict_rows,
    by_sqlalchemy,
    by_sqlalchemy_session,
    by_scoped_session,
    by_sqlmodel_session,
]
ASYNC = [by_async_psycopg, by_async_sqlalchemy, by_async_session, by_async_sqlmodel_session]
