"""Making the database itself, for `flowtrail init`; everything in it is made by migrations."""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tracker.errors import ConfigurationError
from tracker.store.blocking import Connection, connect
from tracker.store.database import translated

MAINTENANCE_DATABASE = "postgres"
"""Exists in every cluster by convention; `createdb` connects to it too."""


def database_name(dsn: str) -> str:
    """Name of the database that a DSN points at.

    Raises:
        ConfigurationError: It is no DSN, or names no database.
    """
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            "expected the database URL as postgresql://user:password@host:5432/database",
            cause=str(error).strip(),
        ) from error
    name = parts.get("dbname") or parts.get("user")
    if not name:
        raise ConfigurationError("the database URL names no database; end it with /flowtrail")
    return str(name)


def database_exists(dsn: str) -> bool:
    """Whether the database is there. Only the server's catalog can tell: libpq reports a missing
    database like any other failure to connect.

    Raises:
        DatabaseUnavailable: The server is away, or refuses these credentials.
    """
    try:
        connect(dsn).close()
    except psycopg.OperationalError:
        with translated(), _maintenance(dsn) as connection:
            known = connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", [database_name(dsn)]
            )
            if known.rowcount == 0:
                return False
        with translated():
            raise
    return True


def create_database(dsn: str) -> None:
    """Create the database that a DSN points at, in UTF-8.

    Raises:
        ConfigurationError: The role may not create databases.
        DatabaseUnavailable: The server is away.
    """
    name = sql.Identifier(database_name(dsn))
    with translated(), _maintenance(dsn) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(name)
        )


def _maintenance(dsn: str) -> Connection:
    return connect(make_conninfo(dsn, dbname=MAINTENANCE_DATABASE), autocommit=True)
