"""Monthly partitions of `payload`: a month of payload ids is a range of UUIDv7 time prefixes, and
dropping its partition purges that month's values at once.

Ids outside every month fall into `payload_default`. Rows of a month that is made late are moved
from there into it, in the transaction that attaches it, so that no row is ever out of reach.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from psycopg import errors as pg
from psycopg import sql

from tracker.core.status import micros
from tracker.store.blocking import LOCK_TIMEOUT, Connection, connect, patiently
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions

logger = logging.getLogger(__name__)

MONTHS_BACK = 1
"""Runs that are open at the first migration write payloads of the month before."""

MONTHS_AHEAD = 12
"""As far as a deployment may go without anybody making partitions."""


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: datetime) -> Month:
        """The month of a moment, which must be aware."""
        in_utc = moment.astimezone(UTC)
        return cls(in_utc.year, in_utc.month)

    def plus(self, months: int) -> Month:
        """The month so many later (negative: earlier)."""
        index = self.year * 12 + self.number - 1 + months
        return Month(index // 12, index % 12 + 1)

    @property
    def partition(self) -> str:
        """Name of its partition."""
        return f"payload_{self.year:04}_{self.number:02}"

    @property
    def start(self) -> datetime:
        """Its first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def lowest_id(self) -> UUID:
        """Lower bound of its ids; that of the next month is the (exclusive) upper one."""
        return UUID(int=micros(self.start) // 1000 << 80)


def make_due(options: DatabaseOptions, now: datetime) -> list[str]:
    """`ensure_partitions` over a connection of its own, as far as the role may.

    Returns:
        Names of the partitions made; none where the tables belong to another role, which makes
        them by `flowtrail migrate`.
    """
    with connect(options.direct_dsn or options.dsn, autocommit=True) as direct:
        try:
            return patiently(lambda: ensure_partitions(direct, options.schema, now=now))
        except pg.InsufficientPrivilege:
            logger.debug("partitions are not ours to make", extra={"event": "partitions.skipped"})
            return []


def ensure_partitions(
    connection: Connection,
    schema: str = DEFAULT_SCHEMA,
    *,
    now: datetime,
    months_ahead: int = MONTHS_AHEAD,
) -> list[str]:
    """Make the missing partitions from last month to `months_ahead` months after this one.

    Safe to repeat and to run twice at once. Each month is a transaction of its own that waits at
    most 5 s for a lock.

    Args:
        connection: Of the tables' owner, in autocommit mode.
        now: Aware; decides which month is this one.

    Returns:
        Names of the partitions that this call made.

    Raises:
        psycopg.errors.LockNotAvailable: Others used the table for longer; months already made stay.
    """
    this_month = Month.of(now)
    wanted = [this_month.plus(offset) for offset in range(-MONTHS_BACK, months_ahead + 1)]
    return [month.partition for month in wanted if _ensure(connection, schema, month)]


def existing_months(connection: Connection, schema: str) -> list[Month]:
    """Months that have a partition, the earliest first."""
    found = connection.execute(
        "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname ~ '^payload_[0-9]{4}_[0-9]{2}$' AND c.relispartition",
        [schema],
    )
    names: list[list[str]] = [name.split("_") for (name,) in found]
    return sorted(Month(int(year), int(number)) for _, year, number in names)


def _ensure(connection: Connection, schema: str, month: Month) -> bool:
    # Looked at without a lock first: repeating must not disturb anybody.
    if _exists(connection, schema, month):
        return False
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"flowtrail.partitions:{schema}"],
        )
        if _exists(connection, schema, month):
            return False
        _make(connection, schema, month)
    return True


def _exists(connection: Connection, schema: str, month: Month) -> bool:
    # Not to_regclass, which may answer from a cache that is older than the lock just taken.
    found = connection.execute(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        [schema, month.partition],
    )
    return found.rowcount > 0


def _make(connection: Connection, schema: str, month: Month) -> None:
    parts = {
        "parent": sql.Identifier(schema, "payload"),
        "rest": sql.Identifier(schema, "payload_default"),
        "partition": sql.Identifier(schema, month.partition),
        "low": sql.Literal(str(month.lowest_id)),
        "high": sql.Literal(str(month.plus(1).lowest_id)),
    }
    for statement in _STATEMENTS:
        connection.execute(sql.SQL(statement).format(**parts))


_STATEMENTS = (
    # The locks of ATTACH, in its order, taken before rows are moved: no row of the month may
    # arrive in the default partition between the move and the attachment.
    "LOCK TABLE ONLY {parent} IN SHARE UPDATE EXCLUSIVE MODE",
    "LOCK TABLE {rest} IN ACCESS EXCLUSIVE MODE",
    # A table of its own that is attached, not CREATE TABLE … PARTITION OF, which would lock the
    # whole of payload against readers and writers.
    "CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL)",
    """
    WITH moved AS (DELETE FROM {rest} WHERE id >= {low} AND id < {high} RETURNING *)
    INSERT INTO {partition} SELECT * FROM moved
    """,
    "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({low}) TO ({high})",
)
