"""A primary that takes no writes is away, not broken: whoever asked may ask again."""

from __future__ import annotations

import psycopg
import pytest

from tests.starts import accepted, encoded
from tracker.errors import DatabaseUnavailable
from tracker.store.database import Database, DatabaseOptions


async def test_a_start_on_a_read_only_primary_may_be_repeated(database: str) -> None:
    name = database.rpartition("/")[2]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    async with Database(DatabaseOptions(database), max_connections=1) as store:
        with pytest.raises(DatabaseUnavailable, match="takes no writes"):
            await accepted(store, encoded())
