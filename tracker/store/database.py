"""Connections: how the library reaches Postgres, and how driver errors become ours.

`Database` serves requests and may go through a transaction-mode pooler, so nothing here relies on
session state; statements are prepared only where no direct URL tells of a pooler. The recorder and
listeners take a `dedicated` connection on the direct URL instead.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, cast

import psycopg
from psycopg import errors as pg
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from tracker.core.payloads import Opener
from tracker.errors import ConfigurationError, DatabaseUnavailable, SchemaMismatch, TrackerError

DEFAULT_SCHEMA = "flowtrail"
AsyncConnection = psycopg.AsyncConnection[DictRow]
FINISHED_WITHIN = 1.0
"""Seconds that whoever is canceled while it connects waits for that to end."""
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """Where the tables are.

    Args:
        dsn: libpq URL or keyword string; may point at a pooler in transaction mode.
        schema: Schema of all our tables.
        direct_dsn: For LISTEN and advisory locks when `dsn` is pooled; default `dsn`.
        statement_timeout: Seconds after which the server ends a statement of ours.
        connect_timeout: Seconds to wait for a connection.
        opener: Decrypts stored values for those who read them; None: they stay encrypted.

    Raises:
        ConfigurationError: If the schema is not a plain lower-case identifier.
    """

    dsn: str
    schema: str = DEFAULT_SCHEMA
    direct_dsn: str | None = None
    statement_timeout: float = 10.0
    connect_timeout: float = 5.0
    opener: Opener | None = None

    def __post_init__(self) -> None:
        if not _IDENTIFIER.match(self.schema):
            raise ConfigurationError(
                "expected the schema to be a lower-case identifier like 'flowtrail', "
                f"got {self.schema!r}"
            )

    def connect_arguments(self, *, pooled: bool) -> dict[str, Any]:
        """Keyword arguments for psycopg: timeouts and keepalives, so that a dead network ends as
        an error instead of a wait without end.

        Args:
            pooled: The connection may go through a pooler, which refuses start-up options; the
                role's own `statement_timeout` counts there.
        """
        timeout = f"-c statement_timeout={round(self.statement_timeout * 1000)}"
        return {
            "autocommit": True,
            "connect_timeout": max(1, round(self.connect_timeout)),
            **({} if pooled else {"options": timeout}),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
            "application_name": "flowtrail",
        }

    def qualified(self, sql: str) -> LiteralString:
        """SQL with `{schema}` filled in: a checked identifier, quoted, for it may be a keyword."""
        return cast("LiteralString", sql.replace("{schema}", f'"{self.schema}"'))


class Database:
    """A pool of autocommit connections with dict rows.

    Use as `async with Database(options) as database`. Opening never fails for a database that is
    away: the first use does, with `DatabaseUnavailable`.
    """

    def __init__(self, options: DatabaseOptions, *, max_connections: int = 10) -> None:
        self.options = options
        self._pool = AsyncConnectionPool[AsyncConnection](
            options.dsn,
            connection_class=_PooledConnection,
            kwargs=options.connect_arguments(pooled=options.direct_dsn is not None)
            | {
                "row_factory": dict_row,
                # Only what asks for it by `prepare=True`, and never through a pooler.
                "prepare_threshold": None if options.direct_dsn else sys.maxsize,
            },
            min_size=1,
            max_size=max_connections,
            timeout=options.connect_timeout,
            # After that the next caller makes it try anew. Left to itself it would back off for
            # minutes, and go on refusing that long after the database is back.
            reconnect_timeout=options.connect_timeout,
            open=False,
            check=_check_if_idle,
        )

    async def __aenter__(self) -> Database:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[AsyncConnection]:
        """A connection in autocommit mode; driver errors come out translated."""
        with translated():
            async with self._pool.connection() as connection:
                try:
                    yield connection
                finally:
                    cast("_PooledConnection", connection).used_at = time.monotonic()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection]:
        """A connection inside a transaction that commits at the end of the block."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    def numbers(self) -> dict[str, float]:
        """Connections of the pool and who waits for them, for metrics."""
        stats = self._pool.get_stats()
        return {name: float(stats.get(key, 0)) for name, key in _SHOWN.items()}

    def sql(self, text: str) -> LiteralString:
        """SQL with `{schema}` filled in."""
        return self.options.qualified(text)


TRUSTED_SECONDS = 0.5
"""How long a connection that was just in use is taken for sound without asking it, which costs as
much as a small query. One that broke meanwhile fails its next user, who is told to repeat."""


class _PooledConnection(psycopg.AsyncConnection[DictRow]):
    used_at = 0.0

    async def execute(
        self,
        query: Any,
        params: Any = None,
        *,
        prepare: bool | None = None,
        binary: bool = False,
    ) -> psycopg.AsyncCursor[DictRow]:
        """See psycopg. A prepared `SELECT *` fails once a newer version has migrated a column in;
        outside of transactions it is then run unprepared, until the pool renews the connection."""
        try:
            return await super().execute(query, params, prepare=prepare, binary=binary)
        except pg.FeatureNotSupported:
            if not prepare or self.info.transaction_status is not TransactionStatus.IDLE:
                raise
        return await super().execute(query, params, prepare=False, binary=binary)


async def _check_if_idle(connection: AsyncConnection) -> None:
    if time.monotonic() - cast("_PooledConnection", connection).used_at > TRUSTED_SECONDS:
        await AsyncConnectionPool[AsyncConnection].check_connection(connection)


_SHOWN = {"size": "pool_size", "available": "pool_available", "waiting": "requests_waiting"}


@asynccontextmanager
async def dedicated(options: DatabaseOptions) -> AsyncGenerator[AsyncConnection]:
    """One autocommit connection of its own, on the direct URL: for the recorder, LISTEN and
    advisory locks."""
    connecting = asyncio.ensure_future(
        psycopg.AsyncConnection[DictRow].connect(
            options.direct_dsn or options.dsn,
            row_factory=dict_row,
            **options.connect_arguments(pooled=False),
        )
    )
    try:
        with translated():
            connection = await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # Left in the middle, the server would keep a session that goes on authenticating for a
        # minute, and whoever drops the database would wait for it.
        connecting.add_done_callback(_finish)
        await asyncio.wait({connecting}, timeout=FINISHED_WITHIN)
        raise
    try:
        yield connection
    finally:
        await connection.close()


def _finish(connecting: asyncio.Future[AsyncConnection]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().pgconn.finish()


@contextmanager
def translated() -> Generator[None]:
    """Turn what the driver raises into our errors; everything else passes."""
    try:
        yield
    except (psycopg.Error, PoolTimeout, PoolClosed) as error:
        raise translate(error) from error


def translate(error: Exception) -> TrackerError:
    """Our error for a driver error: schema trouble is fatal, the rest transient."""
    if isinstance(error, pg.UndefinedTable | pg.UndefinedColumn | pg.InvalidSchemaName):
        return SchemaMismatch(
            "the tracker's tables are missing or of another version; run `flowtrail migrate`",
            cause=str(error).splitlines()[0],
        )
    if isinstance(error, pg.InsufficientPrivilege):
        return ConfigurationError(
            "the database role lacks a grant; `flowtrail init` prints the grants each role needs",
            cause=str(error).splitlines()[0],
        )
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return DatabaseUnavailable(
            "Postgres takes no writes now, as in the middle of a failover; try again",
            cause=str(error).splitlines()[0],
        )
    if isinstance(
        error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout | PoolClosed
    ):
        return DatabaseUnavailable(
            "Postgres cannot be reached or did not answer in time; try again",
            cause=str(error).splitlines()[0] if str(error) else type(error).__name__,
        )
    return TrackerError(f"unexpected database error: {error}", cause=type(error).__name__)
