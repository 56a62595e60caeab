"""Running Alembic on a libpq DSN: one migration at a time per schema, in that schema alone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from tracker.errors import ConfigurationError
from tracker.store.blocking import LOCK_TIMEOUT, connect, patiently
from tracker.store.database import DatabaseOptions, translated

SCRIPTS = Path(__file__).parent
QUEUE_TIMEOUT = "10min"
"""How long one migration waits for another one to end."""

_DUPLICATE_TABLE = "42P07"


@contextmanager
def exclusively(options: DatabaseOptions) -> Generator[None]:
    """Keep other migrations of this schema waiting; driver errors come out translated.

    The lock belongs to a transaction on a connection of its own: unlike a session's lock it works
    through a pooler, and it outlives the commits of the migrations.
    """
    with translated(), connect(options.dsn) as guard:
        guard.execute(
            "SELECT set_config('lock_timeout', %s, true),"
            " set_config('idle_in_transaction_session_timeout', '0', true)",
            [QUEUE_TIMEOUT],
        )
        guard.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"flowtrail.migrate:{options.schema}"],
        )
        yield


def upgrade(options: DatabaseOptions, to: str = "head") -> list[str]:
    """Create the schema if missing and apply what is missing; the revisions applied, in order.

    Args:
        to: The last revision to apply; an earlier one than the newest, to test with.

    Raises:
        ConfigurationError: The schema holds other people's tables of the same names.
    """
    return patiently(lambda: _upgrade(options, to))


def script_config() -> Config:
    """Alembic's settings: where the scripts are. There is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def engine_for(options: DatabaseOptions) -> Engine:
    """SQLAlchemy on our connections, so that every libpq DSN works as it does elsewhere. Each
    transaction sees the tracker's schema only and waits at most `LOCK_TIMEOUT` for a lock."""
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connect(options.dsn), poolclass=NullPool
    )

    @event.listens_for(engine, "begin")
    def set_up(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        # Per transaction, not per session: a pooler may hand the session to others.
        connection.exec_driver_sql(
            "SELECT set_config('search_path', %s, true), set_config('lock_timeout', %s, true),"
            " set_config('statement_timeout', '0', true)",
            (options.schema, LOCK_TIMEOUT),
        )

    return engine


def _upgrade(options: DatabaseOptions, to: str) -> list[str]:
    engine = engine_for(options)
    try:
        with engine.begin() as connection:
            _create_schema(connection, options.schema)
        with engine.connect() as connection:
            return _run_scripts(connection, options.schema, to)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _DUPLICATE_TABLE:
            raise _names_taken(options.schema, error) from error
        raise (error.orig or error) from error


def _create_schema(connection: Connection, schema: str) -> None:
    # Asked first: IF NOT EXISTS demands the right to create schemas even where there is nothing
    # to create, and often somebody else made the schema for a role that may not.
    if connection.scalar(select(func.to_regnamespace(schema))) is None:
        connection.execute(CreateSchema(schema))


def _run_scripts(connection: Connection, schema: str, to: str) -> list[str]:
    applied: list[str] = []
    config = script_config()
    config.attributes.update(connection=connection, schema=schema, applied=applied)
    command.upgrade(config, to)
    return applied


def _names_taken(schema: str, error: DBAPIError) -> ConfigurationError:
    return ConfigurationError(
        f"schema {schema!r} already has a table with the name of one of the tracker's; choose "
        "another schema for the tracker",
        cause=str(error.orig).splitlines()[0],
    )
