"""The live feed in the tables: giving announced changes their order, and reading them.

What a reader gets wrong: `change_pending` has no order. Ids are drawn before transactions commit;
only `change.seq`, given by one session at a time after commit, may be followed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, LiteralString, cast
from uuid import UUID

from psycopg.types.json import Jsonb

from tracker.models.feed import Change, ChangedRun, ChangeFilter
from tracker.models.wire import StepState
from tracker.store.advisory_lock import AdvisoryLock
from tracker.store.announcing import RUN_SCALARS, RUN_VALUES, STEP_SCALARS, STEP_VALUES
from tracker.store.database import (
    AsyncConnection,
    Database,
    DatabaseOptions,
    dedicated,
    translated,
)
from tracker.store.queries import load
from tracker.store.run_rows import run_fields, step_state

SLICE = 20_000
"""Of the order, read for one answer where no index helps: tens of milliseconds."""
PATIENCE = 30.0
"""Seconds for which a step waits for its run to come on record, so that it is told with its ref."""
SILENT_SECONDS = 10
"""After which the server ends a sequencer's session that asks nothing: its process hangs, or the
network has swallowed it, and another process must be able to take over."""

_COLUMNS = (
    "c.seq, c.pending_id, c.namespace, c.kind, c.run_id, c.run_key, c.workflow_type, c.ref_type, "
    "c.ref_id, c.refs, c.status, c.at, c.data, c.report"
)
_SQL = load("changes")
_RUN_BLANK = dict.fromkeys((*RUN_SCALARS, *RUN_VALUES))
_STEP_BLANK = dict.fromkeys((*STEP_SCALARS, *STEP_VALUES))

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Position:
    """How far the feed has come.

    Attributes:
        last_seq: Of the newest change.
        kept_after: Changes up to this seq are gone.
    """

    last_seq: int
    kept_after: int


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of the sequencer moved.

    Attributes:
        highest: Greatest pending id among them; None if there was nothing.
    """

    moved: int
    highest: int | None


class SequencerSession:
    """The session that may give changes their order, once it holds the lock."""

    def __init__(self, connection: AsyncConnection, options: DatabaseOptions) -> None:
        self._connection = connection
        self._options = options
        self._lock = AdvisoryLock(connection, f"flowtrail.sequencer:{options.schema}")

    async def hold(self) -> bool:
        """Whether this session is the sequencer; see `AdvisoryLock`."""
        return await self._lock.hold()

    async def listen(self) -> None:
        """Hear from now on when changes are watched: not before it is held, for what is heard and
        not waited for is kept in memory."""
        with translated():
            channel = watched_channel(self._options.schema)
            await self._connection.execute(_constant(f'LISTEN "{channel}"'))

    async def sequence(self, above: int, limit: int) -> Round:
        """Give the announced changes that are visible by now their place.

        Args:
            above: Look only at pending ids above this one, and at those of the same runs.
            limit: How many of those above at most.
        """
        # Most rounds find nothing, and finding that by the statement below takes twice as long.
        if not (await self._fetch("look", above=above))[0]["found"]:
            return Round(0, None)
        rows = await self._fetch(
            "sequence",
            above=above,
            limit=limit,
            patience=PATIENCE,
            channel=changed_channel(self._options.schema),
        )
        return Round(rows[0]["moved"], rows[0]["highest"])

    async def forget(self, seconds: float, limit: int) -> int:
        """Delete changes that are older; returns how many."""
        return (await self._fetch("forget", seconds=seconds, limit=limit))[0]["forgotten"]

    async def forget_tickets(self) -> None:
        """Delete tickets that have expired."""
        with translated():
            await self._connection.execute(self._options.qualified(_SQL["forget_tickets"]))

    async def wait(self, seconds: float) -> bool:
        """Wait until somebody says that changes are watched, or time is over; tells which."""
        return await _notified(self._connection, seconds)

    async def _fetch(self, name: str, **parameters: Any) -> list[Row]:
        with translated():
            cursor = await self._connection.execute(
                self._options.qualified(_SQL[name]), parameters, prepare=True
            )
            return await cursor.fetchall()


@asynccontextmanager
async def sequencer_session(options: DatabaseOptions) -> AsyncGenerator[SequencerSession]:
    """A session of its own that may become the sequencer's."""
    async with dedicated(options) as connection:
        with translated():
            await connection.execute(_constant(f"SET idle_session_timeout = '{SILENT_SECONDS}s'"))
            # Everything here is found by a key, and a plan is kept that may have been made while a
            # table was nearly empty. Where one is scanned all the same, servers before 18 reckon
            # with costs at which they would compile every round for seconds.
            await connection.execute("SET enable_seqscan = off")
            await connection.execute("SET jit = off")
        yield SequencerSession(connection, options)


class FeedSession:
    """The session that follows the feed for all subscribers of a process."""

    def __init__(self, connection: AsyncConnection, options: DatabaseOptions) -> None:
        self._connection = connection
        self._options = options

    async def position(self) -> Position:
        """How far the feed has come."""
        return await feed_position_on(self._connection, self._options)

    async def changes_after(self, after: int, limit: int) -> list[Row]:
        """Rows of the next changes, of all namespaces."""
        sql = self._options.qualified(_SQL["changes_after"].replace("{columns}", _COLUMNS))
        with translated():
            cursor = await self._connection.execute(
                sql, {"after": after, "limit": limit}, prepare=True
            )
            return await cursor.fetchall()

    async def watch(self) -> None:
        """Tell the sequencer, wherever it runs, that changes are watched."""
        with translated():
            await self._connection.execute(
                "SELECT pg_notify(%s, '')", [watched_channel(self._options.schema)]
            )

    async def wait(self, seconds: float) -> bool:
        """Wait until something changed, or time is over; tells which."""
        return await _notified(self._connection, seconds)


@asynccontextmanager
async def feed_session(options: DatabaseOptions) -> AsyncGenerator[FeedSession]:
    """A session of its own that hears when something changed."""
    async with dedicated(options) as connection:
        with translated():
            await connection.execute(_constant(f'LISTEN "{changed_channel(options.schema)}"'))
        yield FeedSession(connection, options)


async def feed_position(database: Database) -> Position:
    """How far the feed has come."""
    async with database.connection() as connection:
        return await feed_position_on(connection, database.options)


async def feed_position_on(connection: AsyncConnection, options: DatabaseOptions) -> Position:
    """How far the feed has come, as a connection's transaction sees it."""
    with translated():
        cursor = await connection.execute(options.qualified(_SQL["position"]), prepare=True)
        row = await cursor.fetchone()
    return Position(0, 0) if row is None else Position(**row)


async def pending_ids(
    connection: AsyncConnection,
    database: Database,
    namespace: str,
    runs: Sequence[UUID],
    steps_of: UUID | None,
) -> set[int]:
    """Announced changes of runs without a place yet, as the connection's transaction sees them.

    Args:
        runs: Our own ids.
        steps_of: Key of the run whose steps' changes count too.
    """
    parameters = {"namespace": namespace, "runs": list(runs), "steps_of": steps_of}
    cursor = await connection.execute(database.sql(_SQL["pending"]), parameters)
    return {row["id"] for row in await cursor.fetchall()}


async def changes_within(
    database: Database, namespace: str, filters: ChangeFilter, after: int, limit: int
) -> tuple[list[Row], int, Position]:
    """Changes after a seq that may pass a filter: `feed.entries` has the last word.

    Args:
        filters: `run_id` is our own id here.

    Returns:
        Rows, the seq through which was looked (go on after it), and how far the feed has come.
    """
    async with database.connection() as connection:
        position = await feed_position_on(connection, database.options)
        newest = position.last_seq
        if not position.kept_after <= after < newest:
            return [], after, position
        through = newest if filters.run_id is not None else min(newest, after + SLICE)
        rows = await _window(connection, database, namespace, filters, after, through, limit)
        # What was forgotten between the two is missing in the rows.
        kept_after = (await feed_position_on(connection, database.options)).kept_after
        position = replace(position, kept_after=kept_after)
    if len(rows) == limit:
        through = rows[-1]["seq"]
    return rows, through, position


async def _window(
    connection: AsyncConnection,
    database: Database,
    namespace: str,
    filters: ChangeFilter,
    after: int,
    through: int,
    limit: int,
) -> list[Row]:
    ref = [part for part in (filters.ref_type, filters.ref_id) if part is not None]
    parameters: dict[str, Any] = {
        "namespace": namespace,
        "after": after,
        "through": through,
        "limit": limit,
        "run_id": filters.run_id,
        "ref": Jsonb([ref]) if ref else None,
        "types": filters.workflow_type or None,
        "statuses": [str(status) for status in filters.status] or None,
        "kinds": [str(kind) for kind in filters.kinds] or None,
    }
    name = "window" if filters.run_id is None else "run_window"
    sql = database.sql(_SQL[name].replace("{columns}", _COLUMNS))
    cursor = await connection.execute(sql, parameters)
    return await cursor.fetchall()


def change_read(row: Row) -> Change:
    """A change from its row."""
    data, is_run = row["data"], row["kind"] == "run"
    return Change(
        seq=row["seq"],
        at=row["at"],
        kind=row["kind"],
        run_id=row["run_id"],
        workflow_type=row["workflow_type"],
        ref_type=row["ref_type"],
        ref_id=row["ref_id"],
        status=row["status"],
        run=_run(data) if is_run else None,
        step=None if is_run else StepState(**step_state(_STEP_BLANK | data, row["run_id"])),
    )


def refs_of(row: Row) -> Sequence[tuple[str, str]]:
    """Every ref of the run that changed, or whose step did."""
    return [(ref_type, ref_id) for ref_type, ref_id in row["refs"] or ()]


def changed_channel(schema: str) -> str:
    """Where the sequencer tells that there is something new; its messages are empty."""
    return f"{schema}_changed"


def watched_channel(schema: str) -> str:
    """Where processes with subscribers tell the sequencer to be quick."""
    return f"{schema}_watched"


def _run(data: Row) -> ChangedRun:
    row = _RUN_BLANK | data
    return ChangedRun(
        **run_fields(row),
        paused_at=row["paused_at"],
        erased_at=row["erased_at"],
        waiting_on=row["waiting_on"],
    )


def _constant(text: str) -> LiteralString:
    """Text made of constants and a schema, which is a checked identifier."""
    return cast("LiteralString", text)


async def _notified(connection: AsyncConnection, seconds: float) -> bool:
    with translated():
        # To its end: that takes in all that have come, where leaving it would keep them for later.
        come = [one async for one in connection.notifies(timeout=seconds, stop_after=1)]
    return bool(come)
