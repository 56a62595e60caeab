"""Migrations of the tracker's schema: Alembic, in the wheel, in the tracker's own schema.

Forward only, and each safe under the version before it. The version table lies beside our tables,
so a user's own Alembic in the same database never meets ours.
"""

from __future__ import annotations

from datetime import UTC, datetime

from tracker.migrations.roles import grants_sql
from tracker.migrations.upgrade import exclusively, upgrade
from tracker.store import partitions
from tracker.store.blocking import connect, patiently
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions, translated
from tracker.store.schema import REQUIRED_REVISION, is_newer, require_revision, stored_revision

__all__ = ["HEAD", "check", "current_revision", "ensure_partitions", "grants_sql", "migrate"]

HEAD = REQUIRED_REVISION
"""The newest revision."""


def migrate(dsn: str, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """Bring the schema to `HEAD`, creating it where missing, and make the payload partitions of
    the months to come. Safe to repeat and to run twice at once.

    Args:
        dsn: libpq URL or keyword string, of a role that may create in this schema.
        schema: Schema of all our tables.

    Returns:
        Revisions that this call applied, in order; empty if there was nothing to do.

    Raises:
        SchemaMismatch: The database is newer than this version.
        ConfigurationError: The schema's name is unfit, it holds other people's tables of the same
            names, or the role lacks a right.
        DatabaseUnavailable: Postgres is away, or others locked the tables for too long.
    """
    options = DatabaseOptions(dsn, schema)
    with exclusively(options):
        found = current_revision(dsn, schema)
        if is_newer(found):
            require_revision(found, schema)
        applied = upgrade(options)
        ensure_partitions(dsn, schema)
    return applied


def current_revision(dsn: str, schema: str = DEFAULT_SCHEMA) -> str | None:
    """The database's revision; None where nothing was migrated."""
    options = DatabaseOptions(dsn, schema)
    with translated(), connect(dsn, autocommit=True) as connection:
        return stored_revision(connection, options)


def check(dsn: str, schema: str = DEFAULT_SCHEMA) -> None:
    """Make sure that the database is at `HEAD`.

    Raises:
        SchemaMismatch: Its tables are missing, older or newer; the message says what to run.
    """
    require_revision(current_revision(dsn, schema), schema)


def ensure_partitions(
    dsn: str,
    schema: str = DEFAULT_SCHEMA,
    now: datetime | None = None,
    months_ahead: int = partitions.MONTHS_AHEAD,
) -> list[str]:
    """Make the missing payload partitions from last month to `months_ahead` months after `now`
    (aware; default: the clock) and return their names. Safe to repeat and to run twice at once.

    Raises:
        DatabaseUnavailable: Postgres is away, or others locked the tables for too long.
    """
    options = DatabaseOptions(dsn, schema)
    moment = datetime.now(UTC) if now is None else now

    def make() -> list[str]:
        with connect(dsn, autocommit=True) as connection:
            return partitions.ensure_partitions(
                connection, options.schema, now=moment, months_ahead=months_ahead
            )

    with translated():
        return patiently(make)
