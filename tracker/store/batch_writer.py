"""Writes the recorder's batches over one dedicated connection, opened when needed, and sorts what
can go wrong into "later" (`Unavailable`) and "never" (`BatchRefused`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import orjson
import psycopg
from psycopg import errors as pg

from tracker.core.events import TrackerEvent
from tracker.core.fold import fold
from tracker.errors import TrackerError
from tracker.store import record
from tracker.store.batch_document import encode
from tracker.store.database import AsyncConnection, DatabaseOptions, dedicated, translate
from tracker.store.schema import check_schema

_TRIES_AGAINST_CONFLICT = 5


class Unavailable(Exception):
    """The batch cannot be written now; it may be later."""

    def __init__(self, reason: TrackerError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class BatchRefused(Exception):
    """Something in the batch can never be written."""


def encode_events(events: Sequence[TrackerEvent], *, announce: bool = True) -> bytes:
    """Events as `Writer.write` and the spill file take them.

    Args:
        announce: Whether what changes by them is told to the live feed.

    Raises:
        BatchRefused: If one of them cannot be folded or expressed.
    """
    try:
        return encode(fold(events), announce=announce)
    except Exception as error:  # Whatever a hostile value does must stay that event's trouble.
        raise BatchRefused(f"{type(error).__name__}: {error}") from error


class Writer:
    """Writes encoded batches over one connection of its own."""

    def __init__(self, options: DatabaseOptions) -> None:
        self._options = options
        self._resources = AsyncExitStack()
        self._connection: AsyncConnection | None = None

    async def write(self, encoded: bytes) -> None:
        """Merge one batch, atomically.

        Raises:
            Unavailable: Connection, schema, grant or time trouble; the batch is not lost.
            BatchRefused: A value that the database will never take.
        """
        for attempt in range(_TRIES_AGAINST_CONFLICT):
            try:
                await self._execute(encoded)
            except (pg.DeadlockDetected, pg.SerializationFailure) as error:
                if attempt == _TRIES_AGAINST_CONFLICT - 1:
                    raise Unavailable(translate(error)) from error
                await asyncio.sleep(0.005 * 2**attempt)
            else:
                return

    async def write_row_by_row_if_refused(self, encoded: bytes) -> int:
        """Write a spilled batch; if it is refused, each of its rows alone.

        Returns:
            Rows that were refused.
        """
        try:
            await self.write(encoded)
        except BatchRefused:
            return await self._write_rows(encoded)
        return 0

    async def probe(self) -> None:
        """Check that the database answers and that its schema is ours.

        Raises:
            Unavailable: If not.
        """
        try:
            await self._connected()
        except (psycopg.Error, TrackerError, TimeoutError, OSError) as error:
            await self.close()
            raise Unavailable(_reason(error)) from error

    async def close(self) -> None:
        """Close the connection, if there is one."""
        self._connection = None
        resources, self._resources = self._resources, AsyncExitStack()
        with contextlib.suppress(Exception):
            await resources.aclose()

    async def _write_rows(self, encoded: bytes) -> int:
        refused = 0
        for row in _single_rows(orjson.loads(encoded)):
            try:
                await self.write(orjson.dumps(row))
            except BatchRefused:
                refused += 1
        return refused

    async def _execute(self, encoded: bytes) -> None:
        try:
            connection = await self._connected()
            async with self._patience():
                await record.execute(connection, self._options.schema, encoded)
        except (pg.DeadlockDetected, pg.SerializationFailure):
            raise
        except (pg.DataError, pg.IntegrityError) as error:
            raise BatchRefused(str(error).splitlines()[0]) from error
        except (psycopg.Error, TrackerError, TimeoutError, OSError) as error:
            await self.close()
            raise Unavailable(_reason(error)) from error
        except asyncio.CancelledError:
            await self.close()
            raise

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            await self.close()
            connection = await self._resources.enter_async_context(dedicated(self._options))
            async with self._patience():
                await check_schema(connection, self._options)
            self._connection = connection
        return self._connection

    def _patience(self) -> asyncio.Timeout:
        # The server's statement timeout cannot help when the network swallows the answer.
        return asyncio.timeout(self._options.statement_timeout * 1.5)


def _reason(error: Exception) -> TrackerError:
    if isinstance(error, TrackerError):
        return error
    if isinstance(error, TimeoutError | OSError):
        return translate(psycopg.OperationalError(str(error) or "timeout"))
    return translate(error)


def _single_rows(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each row of a batch as a batch of its own; refs keep their run, which they are joined to."""
    announce = {name: batch.pop(name, None) for name in ("announce", "report")}
    batch.pop("fresh", None)  # One of its rows alone need not be.
    runs = {row["id"]: row for row in batch["run"]}
    empty: dict[str, Any] = {table: [] for table in batch}
    for table, rows in batch.items():
        for row in rows:
            beside = {"run": [runs[row["run_id"]]]} if table == "ref" else {}
            yield announce | empty | beside | {table: [row]}
