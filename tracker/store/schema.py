"""Which schema revision this version needs, and how to see which one the database has.

Apart from Alembic on purpose: the recorder checks on every start and must not import a migration
tool for it. `tracker.migrations` takes its revisions from here; a test compares them with the
migration scripts.
"""

from __future__ import annotations

from psycopg import errors as pg

from tracker.errors import SchemaMismatch
from tracker.store.blocking import Connection
from tracker.store.database import AsyncConnection, DatabaseOptions

REVISIONS = ("0001",)
"""Every revision that this version knows, oldest first."""

REQUIRED_REVISION = REVISIONS[-1]
"""The one that it needs."""

REVISION_QUERY = "SELECT version_num AS revision FROM {schema}.alembic_version"
"""One row with the revision; undefined table or schema: not migrated."""


async def check_schema(connection: AsyncConnection, options: DatabaseOptions) -> None:
    """Make sure that the tables are those of this version.

    Args:
        connection: In autocommit mode, so that a missing table spoils no transaction.

    Raises:
        SchemaMismatch: They are missing, older or newer; the message says what to do.
    """
    try:
        cursor = await connection.execute(options.qualified(REVISION_QUERY))
        row = await cursor.fetchone()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        row = None
    require_revision(None if row is None else row["revision"], options.schema)


def stored_revision(connection: Connection, options: DatabaseOptions) -> str | None:
    """The database's revision; None where nothing was migrated. Autocommit, as above."""
    try:
        row = connection.execute(options.qualified(REVISION_QUERY)).fetchone()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        return None
    return None if row is None else str(row[0])


def require_revision(found: str | None, schema: str) -> None:
    """Compare a database's revision with the one that this version needs.

    Raises:
        SchemaMismatch: They differ.
    """
    if found != REQUIRED_REVISION:
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
