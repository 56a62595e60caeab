"""Signals that are part of a caller's own transaction: what is inserted, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.converter import DataConverter

from tests.callers import ASYNC, SYNC, sqlalchemy_url
from tests.codec import Reversing
from tests.starts import NAMESPACE, accepted, count, encoded, rows
from tracker.core.ids import Ref, new_id
from tracker.errors import ConfigurationError, InvalidRequest, NotFound, PayloadTooLarge
from tracker.outbox import (
    signal_in_transaction,
    signal_in_transaction_async,
    start_in_transaction,
)
from tracker.store.database import Database
from tracker.temporal.start_encoder import StartEncoder

ENCODER = StartEncoder(NAMESPACE, task_queue="orders")


@pytest.fixture
async def run_id(store: Database) -> UUID:
    """A run on record."""
    start = encoded(ref_type="order", ref_id="o-1", workflow_id="mine")
    await accepted(store, start, lease=60)
    return start.id


async def signals(store: Database) -> list[dict[str, Any]]:
    return await rows(
        store, "SELECT * FROM {schema}.outbox WHERE kind = 'signal' ORDER BY created_at"
    )


@pytest.mark.parametrize("opened", SYNC)
async def test_it_is_there_if_and_only_if_the_transaction_commits(
    store: Database, database: str, run_id: UUID, opened: Callable[[str], Any]
) -> None:
    with opened(database) as connection:
        signal_in_transaction(connection, ENCODER, "approve", run_id=run_id)
        connection.rollback()
        assert await signals(store) == []

        entry_id = signal_in_transaction(
            connection, ENCODER, "approve", {"by": 1}, 2, run_id=run_id
        )
        assert await signals(store) == []
        connection.commit()
    [entry] = await signals(store)
    assert (entry["id"], entry["run_id"], entry["tries"]) == (entry_id, run_id, 0)
    request = SignalWorkflowExecutionRequest.FromString(entry["request"])
    assert (request.namespace, request.signal_name) == (NAMESPACE, "approve")
    assert (request.workflow_execution.workflow_id, request.request_id) == ("mine", str(entry_id))
    assert [payload.data for payload in request.input.payloads] == [b'{"by":1}', b"2"]


@pytest.mark.parametrize("opened", ASYNC)
async def test_the_same_on_async_connections(
    store: Database, database: str, run_id: UUID, opened: Callable[[str], Any]
) -> None:
    async with opened(database) as connection:
        await signal_in_transaction_async(connection, ENCODER, "approve", run_id=run_id)
        await connection.rollback()
        assert await signals(store) == []

        await signal_in_transaction_async(connection, ENCODER, "approve", run_id=run_id)
        await connection.commit()
    assert len(await signals(store)) == 1


@pytest.mark.parametrize(
    "addressee",
    [
        {"ref": "order/o-1", "workflow_type": "OrderFulfilment"},
        {"ref": Ref("order", "o-1"), "workflow_type": "OrderFulfilment"},
        {"ref": ("order", "o-1"), "workflow_type": "OrderFulfilment"},
        {"workflow_id": "mine"},
    ],
)
async def test_a_run_is_found_by_what_it_is_known_as(
    store: Database, database: str, run_id: UUID, addressee: dict[str, Any]
) -> None:
    with psycopg.connect(database) as connection:
        signal_in_transaction(connection, ENCODER, "approve", **addressee)
    [entry] = await signals(store)
    assert entry["run_id"] == run_id


async def test_temporals_run_id_is_as_good_as_ours(
    store: Database, database: str, run_id: UUID
) -> None:
    key = new_id()
    await rows(
        store,
        "UPDATE {schema}.run SET run_key = %(key)s WHERE id = %(id)s RETURNING id",
        key=key,
        id=run_id,
    )
    with psycopg.connect(database) as connection:
        signal_in_transaction(connection, ENCODER, "approve", run_id=str(key))
    [entry] = await signals(store)
    assert entry["run_id"] == run_id


async def test_a_run_that_is_accepted_in_the_same_transaction_is_found(
    store: Database, database: str
) -> None:
    with psycopg.connect(database) as connection:
        run_id = start_in_transaction(
            connection, ENCODER, "OrderFulfilment", ref_type="order", ref_id="o-2"
        )
        by_ref = {"ref": "order/o-2", "workflow_type": "OrderFulfilment"}
        signal_in_transaction(connection, ENCODER, "approve", **by_ref)
    [entry] = await signals(store)
    assert entry["run_id"] == run_id


async def test_only_what_is_new_is_written(store: Database, database: str, run_id: UUID) -> None:
    with psycopg.connect(database) as connection, psycopg.connect(database) as other:
        other.execute("SET lock_timeout = '200ms'")
        other.execute("SELECT FROM flowtrail.run FOR UPDATE")
        connection.execute("SET lock_timeout = '200ms'")
        signal_in_transaction(connection, ENCODER, "approve", run_id=run_id)
        connection.commit()
        other.rollback()
    # A transaction that locks a row writes its id into it: no start entry was locked.
    [start] = await rows(store, "SELECT xmax::text FROM {schema}.outbox WHERE kind = 'start'")
    assert start["xmax"] == "0"


@pytest.mark.parametrize(
    "addressee",
    [
        {},
        {"ref": "order/o-1"},
        {"workflow_type": "OrderFulfilment"},
        {"run_id": uuid4(), "workflow_id": "mine"},
        {"run_id": uuid4(), "workflow_type": "OrderFulfilment"},
        {"workflow_id": "mine", "workflow_type": "OrderFulfilment"},
    ],
)
def test_whom_it_is_for_is_said_in_one_way(addressee: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"run_id, or ref together with workflow_type, or"):
        signal_in_transaction(None, ENCODER, "approve", **addressee)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "addressee", "field"),
    [
        ("", {"workflow_id": "w"}, "signal_name"),
        ("s" * 1001, {"workflow_id": "w"}, "signal_name"),
        ("é" * 501, {"workflow_id": "w"}, "signal_name"),
        ("a\x00b", {"workflow_id": "w"}, "signal_name"),
        ("\ud800", {"workflow_id": "w"}, "signal_name"),
        (7, {"workflow_id": "w"}, "signal_name"),
        ("approve", {"workflow_id": ""}, "workflow_id"),
        ("approve", {"workflow_id": "w" * 1001}, "workflow_id"),
        ("approve", {"workflow_type": "a\x00b", "ref": "order/1"}, "workflow_type"),
        ("approve", {"run_id": "mine"}, "run_id"),
        ("approve", {"ref": "order", "workflow_type": "T"}, "ref"),
    ],
)
def test_mistakes_are_named_before_the_database_is_asked(
    name: Any, addressee: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        signal_in_transaction(None, ENCODER, name, **addressee)  # type: ignore[arg-type]
    assert raised.value.details["field"] == field


@pytest.mark.parametrize(
    ("addressee", "remedy"),
    [
        ({"run_id": uuid4()}, "give workflow_id"),
        ({"ref": "order/o-9", "workflow_type": "OrderFulfilment"}, "start it first"),
        ({"ref": "order/o-1", "workflow_type": "Refund"}, "start it first"),
    ],
)
async def test_a_run_that_nobody_knows_is_told_at_once(
    database: str, run_id: UUID, addressee: dict[str, Any], remedy: str
) -> None:
    with psycopg.connect(database) as connection:
        with pytest.raises(NotFound, match=remedy):
            signal_in_transaction(connection, ENCODER, "approve", **addressee)
        assert connection.execute("SELECT 1").fetchone() == (1,)


async def test_runs_of_other_namespaces_do_not_exist_here(database: str, run_id: UUID) -> None:
    elsewhere = StartEncoder("elsewhere")
    with psycopg.connect(database) as connection, pytest.raises(NotFound):
        signal_in_transaction(connection, elsewhere, "approve", run_id=run_id)


async def test_what_is_too_large_for_temporal_is_told_at_once(
    store: Database, database: str
) -> None:
    with psycopg.connect(database) as connection:
        with pytest.raises(PayloadTooLarge, match="2097152"):
            signal_in_transaction(
                connection, ENCODER, "approve", "x" * 2 * 1024 * 1024, workflow_id="w"
            )
        signal_in_transaction(connection, ENCODER, "approve", "x" * 2_000_000, workflow_id="w")
    assert len(await signals(store)) == 1


async def test_what_the_data_converter_refuses_is_told(database: str) -> None:
    with psycopg.connect(database) as connection:
        with pytest.raises(InvalidRequest, match="refuses the arguments") as raised:
            signal_in_transaction(connection, ENCODER, "approve", object(), workflow_id="w")
        assert raised.value.details["field"] == "args"


async def test_the_wrong_kind_of_connection_is_told(database: str) -> None:
    engine = create_async_engine(sqlalchemy_url(database))
    async with engine.connect() as connection:
        with pytest.raises(InvalidRequest, match="signal_in_transaction_async"):
            signal_in_transaction(connection, ENCODER, "approve", workflow_id="w")  # type: ignore[arg-type]
    await engine.dispose()


CODEC = StartEncoder(NAMESPACE, data_converter=DataConverter(payload_codec=Reversing()))


async def test_a_codec_needs_the_async_form(store: Database, database: str) -> None:
    with (
        psycopg.connect(database) as connection,
        pytest.raises(ConfigurationError, match="signal_in_transaction_async"),
    ):
        signal_in_transaction(connection, CODEC, "approve", "clear", workflow_id="w")
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await signal_in_transaction_async(connection, CODEC, "approve", "clear", workflow_id="w")
    [entry] = await signals(store)
    assert b"clear" not in entry["request"]
    assert await count(store, "run") == 0
