"""Rotation of the keys that encrypt values: all open with the new one, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from tracker.core.ids import new_id
from tracker.core.payloads import (
    Handling,
    Sealed,
    StoredPayload,
    Treatment,
    label_of,
    store_bytes,
    store_json,
)
from tracker.encryption import Keyring, new_keyring
from tracker.store import reseal as module
from tracker.store.database import Database, DatabaseOptions
from tracker.store.payloads import get_payloads
from tracker.store.reseal import reseal

RING = new_keyring("old")
ROTATED = RING.with_key("new").using("new")


def sealed(text: bytes, ring: Keyring | None = RING) -> StoredPayload:
    """A JSON value as it is stored."""
    stored = store_json(text, Handling(Treatment.FULL, sealer=ring), "input")
    assert stored is not None
    return stored


def put(dsn: str, values: Sequence[StoredPayload | None]) -> list[UUID]:
    """Values in the table; their ids."""
    ids = [new_id() for _ in values]
    with psycopg.connect(dsn) as connection:
        for key, value in zip(ids, values, strict=True):
            assert value is not None
            body = None if value.body is None else Jsonb(None, dumps=lambda _, b=value.body: b)
            connection.execute(
                "INSERT INTO flowtrail.payload"
                " (id, treatment, encoding, size, digest, body, data, key_id)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    *(key, value.treatment, value.encoding, value.size, value.digest),
                    *(body, value.data, value.key_id),
                ],
            )
    return ids


def rows(dsn: str) -> dict[UUID, dict[str, Any]]:
    """All values."""
    with psycopg.Connection[DictRow].connect(dsn, row_factory=dict_row) as connection:
        found = connection.execute("SELECT * FROM flowtrail.payload").fetchall()
    return {row["id"]: row for row in found}


async def test_every_value_gets_the_current_key(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    texts = [f'{{"n":{n}}}'.encode() for n in range(8)]
    ids = put(database, [*map(sealed, texts), sealed(b'"new"', ROTATED)])
    told: list[int] = []
    async with Database(DatabaseOptions(database)) as pool:
        report = await reseal(pool, ROTATED, advance=told.append)
        assert (report.resealed, report.current, report.clear) == (8, 1, 0)
        assert told == [3, 6, 9]
        again = await reseal(pool, ROTATED)
    assert (again.resealed, again.current) == (0, 9)
    found = rows(database)
    only_new = Keyring({"new": ROTATED.keys["new"]}, "new", ROTATED.digest_key)
    for key, text in zip(ids, [*texts, b'"new"'], strict=True):
        row = found[key]
        label = label_of(row["digest"], row["treatment"], row["encoding"])
        assert only_new.open(Sealed(row["key_id"], row["data"]), label) == text


async def test_clear_values_are_encrypted_where_asked(database: str) -> None:
    plain = Handling(Treatment.FULL)
    kept = [
        sealed(b'{"a": [1, 2]}', None),
        store_json(b"NaN", plain, "input"),
        store_bytes(b"\x00", "binary/plain", plain, "input"),
    ]
    others = [
        store_json(b"1", Handling(Treatment.DIGEST), "input"),
        store_bytes(b"\x01", "binary/encrypted", Handling(Treatment.ENCODED), "input"),
    ]
    ids, rest = put(database, kept), put(database, others)
    async with Database(DatabaseOptions(database, opener=RING)) as pool:
        assert (await reseal(pool, RING)).clear == 3
        before = rows(database)
        report = await reseal(pool, RING, encrypt_clear=True)
        assert (report.resealed, report.clear) == (3, 0)
        async with pool.connection() as connection:
            read = await get_payloads(connection, pool, ids)
    assert read[ids[0]].value == {"a": [1, 2]}
    assert read[ids[1]].base64 == "TmFO"
    assert read[ids[2]].base64 == "AA=="
    after = rows(database)
    for key in ids:
        assert (after[key]["body"], after[key]["key_id"]) == (None, "old")
        assert after[key]["digest"] != before[key]["digest"], (
            "a plain digest can be guessed against"
        )
    assert [after[key] for key in rest] == [before[key] for key in rest]


async def test_what_does_not_open_is_left_and_told(database: str) -> None:
    lost = new_keyring("lost")
    [key, damaged, fine] = put(database, [sealed(b"1", lost), sealed(b"2"), sealed(b"3")])
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE flowtrail.payload SET data = data || '\\x00' WHERE id = %s", [damaged]
        )
    before = rows(database)
    async with Database(DatabaseOptions(database)) as pool:
        report = await reseal(pool, ROTATED)
    assert (report.resealed, report.unreadable) == (1, {"lost": 1, "old": 1})
    after = rows(database)
    assert [after[one] for one in (key, damaged)] == [before[one] for one in (key, damaged)]
    assert after[fine]["key_id"] == "new"
