"""Callers that are kept to some runs: every operation, with a run of theirs and with another's.

`OPEN` lists the operations that such a caller may call at all; an operation that is in none of
these lists must be refused, so that a new one cannot open a way around.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from api.main import create_app
from api.rates import RateLimiter
from tests.api.conftest import api_settings, served
from tests.api.test_auth import BODIES, RULES, operations
from tracker.core.ids import new_id
from tracker.errors import RateLimited
from tracker.store import keys
from tracker.store.database import Database, DatabaseOptions
from tracker.store.keys import Restriction

NARROWED = {
    "start_workflow",
    "list_runs",
    "list_workflows",
    "runs_by_ref",
    "changes",
    "watch",
    "ticket",
    "report_run",
}
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Shop:
    """Runs of several refs and types, and a key of a caller that is kept to `order` and `Order`."""

    app: FastAPI
    client: httpx.AsyncClient
    ids: dict[str, str]

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.client.get(path, params=query)


@pytest.fixture
async def shop(database: str) -> AsyncIterator[Shop]:
    runs = {"mine": ("Order", "order"), "type": ("Pay", "order"), "ref": ("Order", "campaign")}
    ids = {name: str(new_id()) for name in runs}
    with psycopg.connect(database) as connection:
        for name, (workflow_type, ref_type) in runs.items():
            _insert(connection, ids[name], workflow_type, ref_type)
    app = create_app(api_settings(database, auth="on"))
    async with served(app) as client, Database(DatabaseOptions(database)) as pool:
        only = Restriction(["order"], ["Order"])
        _, secret = await keys.create(pool, "shop", ["admin"], restriction=only)
        client.headers["X-API-Key"] = secret
        yield Shop(app, client, ids)


def _insert(connection: Any, run_id: str, workflow_type: str, ref_type: str) -> None:
    row = {"id": run_id, "type": workflow_type, "ref": ref_type, "at": AT}
    connection.execute(
        "INSERT INTO flowtrail.run (id, namespace, engine, workflow_type, workflow_id, status,"
        " status_version, ref_type, ref_id, ordered_at, started_at)"
        " VALUES (%(id)s, 'default', 'temporal', %(type)s, 'w', 'running', 1, %(ref)s, 'o-1',"
        " %(at)s, %(at)s)",
        row,
    )
    connection.execute(
        "INSERT INTO flowtrail.run_ref (run_id, namespace, ref_type, ref_id, ordered_at)"
        " VALUES (%(id)s, 'default', %(ref)s, 'o-1', %(at)s)",
        row,
    )
    connection.execute(
        "INSERT INTO flowtrail.workflow (namespace, workflow_type, ref_type, ref_id, metadata,"
        " created_at) VALUES ('default', %(type)s, %(ref)s, 'o-1', '{}', %(at)s)",
        row,
    )


async def test_every_operation_reaches_runs_of_the_caller_alone(shop: Shop) -> None:
    for operation in operations(shop.app):
        if RULES[operation.name] is None or operation.name in NARROWED:
            continue
        if "{run_id}" not in operation.path:
            answer = await operation.call(shop.client, {})
            assert answer.status_code == 403, (operation, answer.text)
            continue
        for name, run_id in shop.ids.items():
            path = operation.path.format(run_id=run_id, step_id=new_id())
            body = BODIES.get(operation.name)
            answer = await shop.client.request(operation.method, path, json=body)
            told = answer.status_code == 404 and "there is no run" in answer.text
            assert told == (name != "mine"), (operation, name, answer.text)


async def test_an_id_that_is_none_is_a_wrong_input(shop: Shop) -> None:
    assert (await shop.get("/v1/runs/nonsense")).status_code == 422


async def test_lists_are_narrowed(shop: Shop) -> None:
    mine = [shop.ids["mine"]]
    for query in ({}, {"workflow_type": "Order"}, {"ref_type": "order", "ref_id": "o-1"}):
        answer = await shop.get("/v1/runs", **query)
        assert [run["run_id"] for run in answer.json()["runs"]] == mine, query
    overview = (await shop.get("/v1/refs/order/o-1")).json()
    assert [run["run_id"] for run in overview["runs"]] == mine
    assert [one["workflow_type"] for one in overview["workflows"]] == ["Order"]
    found = (await shop.get("/v1/workflows", ref_type="order", ref_id="o-1")).json()
    assert [one["workflow_type"] for one in found["workflows"]] == ["Order"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/runs", {"workflow_type": "Pay"}),
        ("/v1/runs", {"ref_type": "campaign"}),
        ("/v1/refs/campaign/o-1", {}),
        ("/v1/workflows", {}),
        ("/v1/workflows", {"ref_type": "campaign", "ref_id": "o-1"}),
    ],
)
async def test_lists_of_others_are_refused(shop: Shop, path: str, query: dict[str, str]) -> None:
    answer = await shop.get(path, **query)
    assert answer.status_code == 403, answer.text
    assert answer.json()["details"]["allowed"] in (["order"], ["Order"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"workflow_type": "Pay"}, "workflow_type"),
        ({"ref_type": "campaign"}, "ref_type"),
        ({"ref_type": None, "ref_id": None}, "ref_type"),
        ({"id_conflict_policy": "terminate_existing"}, "id_conflict_policy"),
    ],
    ids=str,
)
async def test_starts_of_others_are_refused(shop: Shop, change: dict[str, Any], field: str) -> None:
    start = {"workflow_type": "Order", "ref_type": "order", "ref_id": "o-2", "task_queue": "q"}
    answer = await shop.client.post("/v1/runs", json=start | change)
    assert answer.status_code == 403, answer.text
    assert answer.json()["details"]["field"] == field


async def test_a_start_of_its_own_is_accepted(shop: Shop) -> None:
    start = {"workflow_type": "Order", "ref_type": "order", "ref_id": "o-2", "task_queue": "q"}
    assert (await shop.client.post("/v1/runs", json=start)).status_code == 202
    found = (await shop.get("/v1/runs", ref_type="order", ref_id="o-2")).json()
    assert len(found["runs"]) == 1


async def test_a_key_of_several_ref_types_names_one(database: str) -> None:
    async with (
        served(create_app(api_settings(database, auth="on"))) as client,
        Database(DatabaseOptions(database)) as pool,
    ):
        only = Restriction(["order", "invoice"])
        _, secret = await keys.create(pool, "two", ["read"], restriction=only)
        client.headers["X-API-Key"] = secret
        assert (await client.get("/v1/runs")).status_code == 403
        assert (await client.get("/v1/runs?ref_type=invoice")).status_code == 200


# Rates


async def test_a_caller_over_its_rate_is_told_when_to_come_back(database: str) -> None:
    async with (
        served(create_app(api_settings(database, auth="on"))) as client,
        Database(DatabaseOptions(database)) as pool,
    ):
        _, slow = await keys.create(pool, "slow", ["read"], restriction=Restriction(rate=0.01))
        _, other = await keys.create(pool, "other", ["read"])
        assert (await client.get("/v1/runs", headers={"X-API-Key": slow})).status_code == 200
        answer = await client.get("/v1/runs", headers={"X-API-Key": slow})
        assert (answer.status_code, answer.json()["error"]) == (429, "rate_limited")
        assert 90 < int(answer.headers["Retry-After"]) <= 100
        assert (await client.get("/v1/runs", headers={"X-API-Key": other})).status_code == 200


def test_a_bucket_fills_with_time_and_never_beyond_a_second() -> None:
    now = 0.0
    limiter = RateLimiter(clock=lambda: now)

    def taken() -> int:
        count = 0
        try:
            while count < 100:
                limiter.take("a", 4)
                count += 1
        except RateLimited:
            pass
        return count

    assert taken() == 4
    now = 0.5
    assert taken() == 2
    now = 3600.0
    assert taken() == 4
    for _ in range(1000):
        limiter.take("b", None)
