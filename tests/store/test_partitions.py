"""Partitions of `payload`: months as ranges of ids, made ahead, safe beside writers and readers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from itertools import chain
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import eventually
from tracker.core.ids import payload_id
from tracker.errors import DatabaseUnavailable
from tracker.migrations import ensure_partitions
from tracker.store import blocking, partitions
from tracker.store.partitions import Month

OWNER = UUID("01935f00-0000-7000-8000-000000000001")
LATER = datetime(2031, 3, 15, 12, tzinfo=UTC)
"""Beyond every partition that a migration of today makes."""

INSERT = """
INSERT INTO flowtrail.payload (id, treatment, encoding, size, digest, body)
VALUES (%s, 'full', 'json/plain', 1, '\\x00', '1')
"""


def payload_at(moment: datetime) -> UUID:
    return payload_id(OWNER, "input", b"digest", moment)


def place_of(dsn: str, payload: UUID) -> list[str]:
    """Names of the partitions that hold the payload."""
    query = "SELECT tableoid::regclass::text FROM flowtrail.payload WHERE id = %s"
    with psycopg.connect(dsn) as connection:
        return [row[0].removeprefix("flowtrail.") for row in connection.execute(query, [payload])]


def months_of(dsn: str) -> list[str]:
    query = """
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = 'flowtrail.payload'::regclass ORDER BY 1
    """
    with psycopg.connect(dsn) as connection:
        return [row[0].removeprefix("flowtrail.") for row in connection.execute(query)]


def insert(connection: psycopg.Connection[Any], moment: datetime) -> UUID:
    payload = payload_at(moment)
    connection.execute(INSERT, [payload])
    return payload


moments = st.integers(0, 2**52).map(
    lambda micros: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
)


@given(moment=moments)
def test_a_months_bounds_hold_exactly_the_payloads_of_its_moments(moment: datetime) -> None:
    month = Month.of(moment)
    assert month.lowest_id <= payload_at(moment) < month.plus(1).lowest_id
    assert month.plus(1).plus(-1) == month


def test_months_are_counted_in_utc_and_across_years() -> None:
    new_year_in_tokyo = datetime(2027, 1, 1, 8, tzinfo=timezone(timedelta(hours=9)))
    assert Month.of(new_year_in_tokyo) == Month(2026, 12)
    assert Month(2026, 12).plus(1) == Month(2027, 1)
    assert Month(2026, 1).plus(-1) == Month(2025, 12)
    assert Month(2026, 11).plus(14) == Month(2028, 1)
    assert Month(2026, 3).partition == "payload_2026_03"


def test_a_migration_makes_last_month_to_a_year_ahead(database: str) -> None:
    this_month = Month.of(datetime.now(UTC))
    expected = [this_month.plus(offset).partition for offset in range(-1, 13)]
    assert months_of(database) == sorted([*expected, "payload_default"])
    with psycopg.connect(database, autocommit=True) as connection:
        now = insert(connection, datetime.now(UTC))
        then = insert(connection, LATER)
    assert place_of(database, now) == [this_month.partition]
    assert place_of(database, then) == ["payload_default"]


def test_only_missing_months_are_made(database: str) -> None:
    assert ensure_partitions(database) == []
    made = ensure_partitions(database, now=LATER, months_ahead=1)
    assert made == ["payload_2031_02", "payload_2031_03", "payload_2031_04"]
    assert ensure_partitions(database, now=LATER, months_ahead=2) == ["payload_2031_05"]


def test_rows_that_came_before_their_partition_are_moved_into_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        early, late = insert(connection, LATER), insert(connection, LATER + timedelta(days=300))
    ensure_partitions(database, now=LATER, months_ahead=0)
    assert place_of(database, early) == ["payload_2031_03"]
    assert place_of(database, late) == ["payload_default"]


def test_two_at_once_make_each_month_once(database: str) -> None:
    make = partial(ensure_partitions, now=LATER, months_ahead=3)
    with ThreadPoolExecutor(3) as pool:
        made = list(chain.from_iterable(pool.map(make, [database] * 3)))
    assert sorted(made) == [f"payload_2031_0{month}" for month in range(2, 7)]


async def test_a_row_being_written_is_waited_for_and_moved(database: str) -> None:
    with psycopg.connect(database) as writer:
        payload = insert(writer, LATER)
        making = asyncio.create_task(
            asyncio.to_thread(ensure_partitions, database, now=LATER, months_ahead=0)
        )
        await eventually(lambda: is_waiting(database))
        writer.commit()
    assert "payload_2031_03" in await making
    assert place_of(database, payload) == ["payload_2031_03"]


def is_waiting(dsn: str) -> bool:
    query = """
        SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
        WHERE NOT granted AND datname = current_database()
    """
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchone() is not None


def test_a_table_that_stays_locked_is_told_and_can_be_tried_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(blocking, "LOCK_TRIES", 2)
    with psycopg.connect(database) as reader:
        reader.execute("SELECT FROM flowtrail.payload_default")
        with pytest.raises(DatabaseUnavailable, match="pg_stat_activity"):
            ensure_partitions(database, now=LATER, months_ahead=0)
    assert len(ensure_partitions(database, now=LATER, months_ahead=0)) == 2


def test_a_month_that_somebody_detached_is_left_alone(database: str) -> None:
    ensure_partitions(database, now=LATER, months_ahead=0)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "ALTER TABLE flowtrail.payload DETACH PARTITION flowtrail.payload_2031_03"
        )
    assert ensure_partitions(database, now=LATER, months_ahead=0) == []


def test_dropping_a_month_drops_its_payloads_and_no_others(database: str) -> None:
    ensure_partitions(database, now=LATER, months_ahead=0)
    with psycopg.connect(database, autocommit=True) as connection:
        gone, kept = insert(connection, LATER), insert(connection, LATER - timedelta(days=30))
        connection.execute("DROP TABLE flowtrail.payload_2031_03")
    assert place_of(database, gone) == []
    assert place_of(database, kept) == ["payload_2031_02"]
