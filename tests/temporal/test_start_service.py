"""Which workflow a start means, and whether its input fits: before anything is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter

from tests.starts import NAMESPACE, count, rows, run_row
from tracker.core.events import WorkflowTypeSeen
from tracker.core.fold import fold
from tracker.core.ids import new_id
from tracker.errors import IdempotencyConflict, InvalidRequest, UnknownWorkflowType
from tracker.models.wire import StartRun
from tracker.outbox import Outcome, Retry, Started
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart
from tracker.store.record import write_batch
from tracker.store.workflow_types import WorkflowTypeCatalog
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import LARGE, StartOutcome, StartService


@dataclass
class Item:
    name: str
    amount: int


@dataclass
class Basket:
    items: list[Item]
    note: str | None = None


SCHEMA = {
    "type": "array",
    "prefixItems": [TypeAdapter(Basket).json_schema()],
    "maxItems": 1,
    "$defs": TypeAdapter(Basket).json_schema()["$defs"],
}
GOOD = {"items": [{"name": "nut", "amount": 2}]}


class EverReady:
    """A Temporal that takes everything."""

    async def start(self, start: LeasedStart) -> Outcome:
        return Started(new_id())

    async def find(self, start: LeasedStart) -> Started | Retry | None:
        return None

    async def cancel(self, start: LeasedStart, run_key: UUID) -> Retry | None:
        return None


@pytest.fixture
async def service(store: Database) -> StartService:
    await announce(store, "Shopping", queue="shop", aliases=("shopping_trip",), schema=SCHEMA)
    await announce(store, "Cleaning", queue="house")
    return StartService(store, StartEncoder(NAMESPACE), EverReady())


async def announce(
    store: Database,
    name: str,
    *,
    queue: str,
    aliases: tuple[str, ...] = (),
    schema: dict[str, Any] | None = None,
) -> None:
    seen = WorkflowTypeSeen(
        namespace=NAMESPACE, name=name, task_queue=queue, aliases=aliases, input_schema=schema
    )
    async with store.connection() as connection:
        await write_batch(connection, "flowtrail", fold([seen]))


@pytest.mark.parametrize("asked", ["Shopping", "shopping_trip"])
async def test_name_and_alias_find_type_and_queue(
    service: StartService, store: Database, asked: str
) -> None:
    result = await service.start(StartRun(workflow_type=asked, input=GOOD))
    row = await run_row(store, result.run.run_id)
    assert (row["workflow_type"], row["task_queue"]) == ("Shopping", "shop")
    assert row["workflow_id"].startswith("Shopping/")


async def test_the_callers_queue_wins(service: StartService, store: Database) -> None:
    result = await service.start(StartRun(workflow_type="Shopping", input=GOOD, task_queue="mine"))
    assert (await run_row(store, result.run.run_id))["task_queue"] == "mine"


async def test_an_exact_name_wins_over_an_alias(service: StartService, store: Database) -> None:
    await announce(store, "shopping_trip", queue="other")
    result = await service.start(StartRun(workflow_type="shopping_trip", input=GOOD))
    assert result.run.workflow_type == "shopping_trip"


@pytest.mark.parametrize("asked", ["Shoping", "shopping", "ShoppingTrip"])
async def test_an_unknown_type_names_near_ones(
    service: StartService, store: Database, asked: str
) -> None:
    with pytest.raises(UnknownWorkflowType) as raised:
        await service.start(StartRun(workflow_type=asked, input=GOOD))
    near = raised.value.details["near"]
    assert near
    assert set(near) <= {"Shopping", "shopping_trip"}
    assert near[0] in raised.value.message
    assert await count(store, "run") == 0


async def test_an_unknown_type_with_a_queue_is_taken_as_it_is(service: StartService) -> None:
    result = await service.start(StartRun(workflow_type="Elsewhere", task_queue="q"))
    assert result.outcome is StartOutcome.CREATED


async def test_a_worker_that_moves_is_followed(store: Database) -> None:
    catalog = WorkflowTypeCatalog(store, NAMESPACE, max_age=0)
    await announce(store, "Moving", queue="old")
    assert (await catalog.resolve("Moving", has_queue=False)).task_queue == "old"
    await announce(store, "Moving", queue="new")
    assert (await catalog.resolve("Moving", has_queue=False)).task_queue == "new"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"input": {"items": [{"name": "nut", "amount": "two"}]}}, "input.items[0].amount"),
        ({"input": {"items": [{"name": "nut"}]}}, "input.items[0].amount"),
        ({"input": {}}, "input.items"),
        ({"input": "nuts"}, "input"),
        ({"args": [{"items": 1}]}, "args[0].items"),
        ({"args": [GOOD, 2]}, "args"),
        ({"input": {"items": [], "note": "x" * LARGE, "more": 1, **{"items": 3}}}, "input.items"),
    ],
)
async def test_a_wrong_input_is_refused_by_field(
    service: StartService, store: Database, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await service.start(StartRun(workflow_type="Shopping", **given))
    assert raised.value.details["field"] == field
    assert raised.value.message.startswith(field)
    assert len(raised.value.message) < 400
    assert await count(store, "run") == 0


async def test_a_changed_schema_counts(store: Database) -> None:
    service = StartService(store, StartEncoder(NAMESPACE), EverReady())
    service._catalog = WorkflowTypeCatalog(store, NAMESPACE, max_age=0)
    number = {"type": "array", "prefixItems": [{"type": "number"}]}
    text = {"type": "array", "prefixItems": [{"type": "string"}]}
    for schema, good, bad in ((number, 1, "a"), (text, "a", 1)):
        await announce(store, "Changing", queue="q", schema=schema)
        await service.start(StartRun(workflow_type="Changing", input=good))
        with pytest.raises(InvalidRequest):
            await service.start(StartRun(workflow_type="Changing", input=bad))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "prefixItems": [{"$ref": "http://192.0.2.1/schema.json"}]},
        {"type": "no-such-type"},
    ],
)
async def test_a_schema_that_cannot_be_read_holds_up_nobody(
    service: StartService, store: Database, schema: dict[str, Any]
) -> None:
    await announce(store, "Odd", queue="q", schema=schema)
    result = await service.start(StartRun(workflow_type="Odd", input=1))
    assert result.outcome is StartOutcome.CREATED


async def test_a_key_outlives_a_move_of_the_worker(service: StartService, store: Database) -> None:
    asked = StartRun(workflow_type="Cleaning", idempotency_key="k")
    first = await service.start(asked)
    await announce(store, "Cleaning", queue="elsewhere")
    service._catalog = WorkflowTypeCatalog(store, NAMESPACE)
    assert (await service.start(asked)).run.run_id == first.run.run_id
    with pytest.raises(IdempotencyConflict):
        await service.start(asked.model_copy(update={"input": 1}))


async def test_a_key_outlives_the_registration_of_its_type(
    service: StartService, store: Database
) -> None:
    asked = StartRun(workflow_type="Cleaning", idempotency_key="k")
    first = await service.start(asked)
    await rows(store, "DELETE FROM {schema}.workflow_type RETURNING name")
    service._catalog = WorkflowTypeCatalog(store, NAMESPACE)

    again = await service.start(asked)
    assert (again.outcome, again.run.run_id) == (StartOutcome.EXISTING, first.run.run_id)
    with pytest.raises(IdempotencyConflict):
        await service.start(asked.model_copy(update={"input": 1}))
    with pytest.raises(UnknownWorkflowType):
        await service.start(asked.model_copy(update={"idempotency_key": "other"}))


async def test_a_key_outlives_the_schema_that_its_input_fitted(
    service: StartService, store: Database
) -> None:
    asked = StartRun(workflow_type="Shopping", input=GOOD, idempotency_key="k")
    first = await service.start(asked)
    await announce(store, "Shopping", queue="shop", schema={"type": "array", "maxItems": 0})
    service._catalog = WorkflowTypeCatalog(store, NAMESPACE)
    assert (await service.start(asked)).run.run_id == first.run.run_id
