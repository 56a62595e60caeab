"""Starts that are part of a caller's own transaction: all of it or nothing, and nobody waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio.converter import DataConverter

from tests.callers import ASYNC, SYNC, sqlalchemy_url
from tests.codec import Reversing
from tests.starts import NAMESPACE, a_leased_start, accepted, count, encoded, request, rows, run_row
from tracker.errors import ConfigurationError, IdempotencyConflict, InvalidRequest
from tracker.outbox import start_in_transaction, start_in_transaction_async
from tracker.outbox.transactional import insert_start
from tracker.store import outbox
from tracker.store.database import Database
from tracker.temporal.start_encoder import StartEncoder

ENCODER = StartEncoder(NAMESPACE, task_queue="orders")


@dataclass
class Order:
    number: str


def start(connection: Any, **options: Any) -> UUID:
    given: dict[str, Any] = {"ref_type": "order", "ref_id": "o-1"} | options
    return start_in_transaction(connection, ENCODER, "OrderFulfilment", Order("o-1"), **given)


@pytest.mark.parametrize("opened", SYNC)
async def test_it_is_there_if_and_only_if_the_transaction_commits(
    store: Database, database: str, opened: Callable[[str], Any]
) -> None:
    with opened(database) as connection:
        start(connection, metadata={"department": "sales"})
        connection.rollback()
        assert await total(store) == 0

        run_id = start(connection, metadata={"department": "sales"})
        assert await total(store) == 0
        connection.commit()
    row = await run_row(store, run_id)
    assert (row["status"], row["ref_id"], row["task_queue"]) == ("accepted", "o-1", "orders")
    [due] = await outbox.lease(store, NAMESPACE, limit=5, seconds=1)
    assert (due.id, due.tries) == (run_id, 1)


@pytest.mark.parametrize("opened", ASYNC)
async def test_the_same_on_async_connections(
    store: Database, database: str, opened: Callable[[str], Any]
) -> None:
    async def begin(connection: Any) -> UUID:
        return await start_in_transaction_async(
            connection, ENCODER, "OrderFulfilment", Order("o-1"), ref_type="order", ref_id="o-1"
        )

    async with opened(database) as connection:
        await begin(connection)
        await connection.rollback()
        assert await total(store) == 0

        run_id = await begin(connection)
        assert await total(store) == 0
        await connection.commit()
    assert (await run_row(store, run_id))["status"] == "accepted"


async def test_open_transactions_of_one_ref_do_not_wait_for_each_other(
    store: Database, database: str
) -> None:
    with psycopg.connect(database) as one, psycopg.connect(database) as two:
        for connection in (one, two):
            connection.execute("SET lock_timeout = '200ms'")
        ids = {start(one), start(two)}
        # Neither does the facade wait for them, nor a relay's binding of another run of that ref.
        facade = encoded(ref_type="order", ref_id="o-1")
        await accepted(store, facade)
        entry = await a_leased_start(store)
        await outbox.finish(store, entry, facade.id)
        two.commit()
        one.commit()
    assert await count(store, "run") == 3
    assert {row["id"] for row in await rows(store, "SELECT id FROM {schema}.run")} > ids


async def test_it_inserts_and_locks_nothing_that_was_there(store: Database, database: str) -> None:
    await rows(
        store,
        "INSERT INTO {schema}.workflow (namespace, workflow_type, ref_type, ref_id, created_at)"
        " VALUES ('default', 'OrderFulfilment', 'order', 'o-1', now()) RETURNING id",
    )
    with psycopg.connect(database) as connection:
        start(connection, idempotency_key="k")
        # A transaction that locks a row writes its id into it; ours wrote new rows only.
        [workflow] = await rows(store, "SELECT xmax::text FROM {schema}.workflow")
        assert workflow["xmax"] == "0"
        connection.rollback()


async def test_a_known_key_gives_the_run_that_has_it(store: Database, database: str) -> None:
    with psycopg.connect(database) as connection:
        first = start(connection, idempotency_key="k")
        assert start(connection, idempotency_key="k") == first
        connection.commit()
        assert start(connection, idempotency_key="k") == first
        with pytest.raises(IdempotencyConflict):
            start(connection, idempotency_key="k", metadata={"other": 1})
        # The refusal is ours, not the database's: the transaction is intact.
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert await count(store, "run") == 1


async def test_durations_and_arguments(store: Database, database: str) -> None:
    with psycopg.connect(database) as connection:
        run_id = start_in_transaction(
            connection,
            ENCODER,
            "OrderFulfilment",
            args=[Order("o-1"), 2],
            start_delay=timedelta(minutes=1),
            run_timeout=30,
        )
    [payload] = await rows(store, "SELECT body FROM {schema}.payload")
    assert payload["body"] == [{"number": "o-1"}, 2]
    assert (await run_row(store, run_id))["ref_type"] is None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ref_type": "order"}, None),
        ({"metadata": {"a": float("nan")}}, "metadata"),
        ({"run_timeout": -1}, "run_timeout"),
        ({"priority_": 1}, "priority_"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], field: str | None) -> None:
    with pytest.raises(InvalidRequest) as raised:
        start_in_transaction(None, ENCODER, "OrderFulfilment", **options)  # type: ignore[arg-type]
    assert raised.value.details["field"] == field


def test_a_start_needs_a_task_queue() -> None:
    with pytest.raises(InvalidRequest, match="task_queue"):
        start_in_transaction(None, StartEncoder(NAMESPACE), "Nightly")  # type: ignore[arg-type]


async def test_the_wrong_kind_of_connection_is_told(database: str) -> None:
    engine = create_async_engine(sqlalchemy_url(database))
    async with engine.connect() as connection:
        with pytest.raises(InvalidRequest, match="start_in_transaction_async"):
            start(connection)
    await engine.dispose()
    with (
        psycopg.connect(database) as connection,
        pytest.raises(InvalidRequest, match="start_in_transaction"),
    ):
        await start_in_transaction_async(connection, ENCODER, "Nightly")  # type: ignore[arg-type]


CODEC = StartEncoder(
    NAMESPACE, data_converter=DataConverter(payload_codec=Reversing()), task_queue="orders"
)


async def test_a_codec_needs_the_async_form(store: Database, database: str) -> None:
    with psycopg.connect(database) as connection:
        with pytest.raises(ConfigurationError, match="start_in_transaction_async"):
            start_in_transaction(connection, CODEC, "OrderFulfilment", Order("clear"))
        insert_start(connection, await CODEC.encode_async(request(input="clear")))
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await start_in_transaction_async(connection, CODEC, "OrderFulfilment", "clear")

    kept = await rows(store, "SELECT o.request, p.* FROM {schema}.outbox o, {schema}.payload p")
    assert len(kept) == 4
    for row in kept:
        assert (row["treatment"], row["body"]) == ("encoded", None)
        assert b"clear" not in row["request"]
        assert b"clear" not in row["data"]


async def total(store: Database) -> int:
    tables = ("run", "outbox", "payload", "run_ref", "run_label", "workflow", "idempotency")
    return sum([await count(store, table) for table in tables])
