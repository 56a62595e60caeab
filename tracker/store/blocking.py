"""A connection for code that blocks: migrations and set-up commands, never a server's hot path.

Driver errors pass as they are; `database.translated()` makes them ours at the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tracker.errors import DatabaseUnavailable

Connection = psycopg.Connection[tuple[Any, ...]]
Result = TypeVar("Result")

CONNECT_SECONDS = 10
LOCK_TIMEOUT = "5s"
"""How long a change of tables waits for a lock. Everybody else waits behind it, so it rather gives
up, lets them pass and tries again."""
LOCK_TRIES = 5


def connect(dsn: str, *, autocommit: bool = False) -> Connection:
    """Open a connection.

    Args:
        dsn: libpq URL or keyword string, with whatever libpq understands in it.
        autocommit: Whether each statement stands for itself.
    """
    return psycopg.connect(
        dsn,
        autocommit=autocommit,
        connect_timeout=CONNECT_SECONDS,
        application_name="flowtrail-migrate",
        # A prepared statement outlives its transaction, which poolers do not forgive.
        prepare_threshold=None,
    )


def patiently(change: Callable[[], Result]) -> Result:
    """Run a change of tables that gives up after `LOCK_TIMEOUT`, again if it did.

    Raises:
        DatabaseUnavailable: It never got its locks.
    """
    retrying = Retrying(
        retry=retry_if_exception_type((pg.LockNotAvailable, pg.DeadlockDetected)),
        stop=stop_after_attempt(LOCK_TRIES),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        reraise=True,
    )
    try:
        return retrying(change)
    except (pg.LockNotAvailable, pg.DeadlockDetected) as error:
        raise DatabaseUnavailable(
            "other transactions kept the tracker's tables locked; look for long ones in "
            "pg_stat_activity, end them, and run `flowtrail migrate` again"
        ) from error
