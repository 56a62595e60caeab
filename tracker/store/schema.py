"""Which schema revision this version needs, and how to see which one the database has.

Apart from Alembic on purpose: the recorder checks on every start and must not import a migration
tool for it. `tracker.migrations` takes its revisions from here; a test compares them with the
migration scripts.
"""

from __future__ import annotations

from typing import Any

from psycopg import errors as pg

from tracker.errors import SchemaMismatch
from tracker.store.blocking import Connection
from tracker.store.database import AsyncConnection, DatabaseOptions

REVISIONS = tuple(f"{number:04}" for number in range(1, 12))
"""Every revision that this version knows, oldest first."""

REQUIRED_REVISION = REVISIONS[-1]
"""The one that it needs."""

REVISION_QUERY = "SELECT version_num AS revision FROM {schema}.alembic_version"
"""One row with the revision; undefined table or schema: not migrated."""

OLDEST_QUERY = "SELECT oldest_revision FROM {schema}.compatibility"
"""One row: the oldest revision whose code may go on; undefined table: none but its own."""


async def check_schema(connection: AsyncConnection, options: DatabaseOptions) -> None:
    """Make sure that this version may read and write the tables: they are of its revision, or of a
    newer one that declares itself compatible, as in the middle of a rolling upgrade.

    Args:
        connection: In autocommit mode, so that a missing table spoils no transaction.

    Raises:
        SchemaMismatch: They are missing, older or newer; the message says what to do.
    """
    row = await _row(connection, options.qualified(REVISION_QUERY))
    found = None if row is None else str(row["revision"])
    oldest = None
    if is_newer(found):
        row = await _row(connection, options.qualified(OLDEST_QUERY))
        oldest = None if row is None else str(row["oldest_revision"])
    require_revision(found, options.schema, oldest=oldest)


async def _row(connection: AsyncConnection, query: Any) -> Any:
    try:
        cursor = await connection.execute(query)
        return await cursor.fetchone()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        return None


def stored_revision(connection: Connection, options: DatabaseOptions) -> str | None:
    """The database's revision; None where nothing was migrated. Autocommit, as above."""
    try:
        row = connection.execute(options.qualified(REVISION_QUERY)).fetchone()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        return None
    return None if row is None else str(row[0])


def require_revision(found: str | None, schema: str, *, oldest: str | None = None) -> None:
    """Compare a database's revision with the one that this version needs.

    Args:
        oldest: Of a newer database: the oldest revision whose code may go on.

    Raises:
        SchemaMismatch: They differ, and nothing allows it.
    """
    if found != REQUIRED_REVISION and oldest not in REVISIONS:
        raise SchemaMismatch(
            _advice(found, schema), found=found, required=REQUIRED_REVISION, schema=schema
        )


def is_newer(found: str | None) -> bool:
    """Whether a revision is none of ours: made by a newer version, or by another program."""
    return found is not None and found not in REVISIONS


def _advice(found: str | None, schema: str) -> str:
    if found is None:
        return f"the database has no tracker tables in schema {schema!r}; run `flowtrail migrate`"
    if is_newer(found):
        return (
            f"schema {schema!r} is at revision {found!r}, which this version does not know (it "
            f"needs {REQUIRED_REVISION!r}); update flowtrail here to the version that migrated "
            "it, or choose another schema if it belongs to another program"
        )
    return (
        f"schema {schema!r} is at revision {found!r}, this version needs {REQUIRED_REVISION!r}; "
        "run `flowtrail migrate`"
    )
