"""The API sees to it that payloads have a partition in the months to come."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
from psycopg import sql

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.waiting import eventually
from tracker.store.partitions import MONTHS_AHEAD, Month


async def test_missing_partitions_are_made(database: str) -> None:
    last = Month.of(datetime.now(UTC)).plus(MONTHS_AHEAD).partition
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("flowtrail", last)))

        def is_there() -> bool:
            row = connection.execute("SELECT to_regclass(%s)", [f"flowtrail.{last}"]).fetchone()
            return row is not None and row[0] is not None

        assert not is_there()
        async with served(create_app(api_settings(database))):
            await eventually(is_there)
