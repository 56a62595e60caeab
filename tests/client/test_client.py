"""What both clients send and how they read answers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict

from tests.client.conftest import Caller, settle
from tests.client.scripted import (
    NEXT,
    RUN,
    RUN_BODY,
    Script,
    ok,
    started,
)
from tracker import errors
from tracker.client import AsyncTrackerClient, TrackerClient
from tracker.core.ids import Ref
from tracker.core.status import RunStatus
from tracker.models.wire import Priority


class Order(BaseModel):
    """Strict, so that only JSON's reading of dates accepts it."""

    model_config = ConfigDict(strict=True)

    order_id: str
    due: datetime


@dataclass
class Item:
    sku: str
    id: UUID


async def test_start_sends_the_ref_durations_and_a_model_as_json(caller: Caller) -> None:
    script = Script(started())
    run = await caller.call(
        script,
        "start_workflow",
        "Order",
        Order(order_id="o-1", due=datetime(2026, 1, 31, tzinfo=UTC)),
        ref="order/o-1/x",
        metadata={"items": [Item("s", RUN)]},
        start_delay=timedelta(minutes=2),
        run_timeout=5,
        priority=Priority(priority_key=1),
        task_queue=None,
    )
    assert (run.run_id, run.status, run.created) == (RUN, RunStatus.RUNNING, True)
    assert script.bodies == [
        {
            "workflow_type": "Order",
            "input": {"order_id": "o-1", "due": "2026-01-31T00:00:00Z"},
            "ref_type": "order",
            "ref_id": "o-1/x",
            "metadata": {"items": [{"sku": "s", "id": str(RUN)}]},
            "start_delay": 120.0,
            "run_timeout": 5.0,
            "priority": {"priority_key": 1},
        }
    ]


@pytest.mark.parametrize(
    ("args", "options", "sent"),
    [
        ((), {}, {}),
        ((None,), {}, {"input": None}),
        ((), {"args": [1, "two"]}, {"args": [1, "two"]}),
    ],
)
async def test_no_argument_none_and_several_arguments_differ(
    caller: Caller, args: tuple[Any, ...], options: dict[str, Any], sent: dict[str, Any]
) -> None:
    script = Script(started())
    await caller.call(script, "start_workflow", "Order", *args, **options)
    assert script.bodies == [{"workflow_type": "Order", **sent}]


@pytest.mark.parametrize(
    ("args", "options", "complaint"),
    [
        ((), {"ref": "no-slash"}, "ref_type/ref_id"),
        ((), {"ref": "a/b", "ref_type": "a"}, "not both"),
        ((), {"ref_type": "a"}, "belong together"),
        ((1,), {"args": [1]}, "not both"),
        ((float("nan"),), {}, "JSON"),
        ((object(),), {}, "input cannot be turned into JSON"),
        (("\ud800",), {}, "JSON"),
        ((), {"run_timeout": -1}, "run_timeout"),
        ((), {"colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_sending(
    caller: Caller, args: tuple[Any, ...], options: dict[str, Any], complaint: str
) -> None:
    script = Script()
    with pytest.raises(errors.InvalidRequest, match=complaint):
        await caller.call(script, "start_workflow", "Order", *args, **options)
    assert script.requests == []


async def test_filters_become_query_parameters(caller: Caller) -> None:
    script = Script(ok(runs=[RUN_BODY]))
    page = await caller.call(
        script,
        "list_runs",
        ref=("order", "o-1"),
        workflow_type="Order",
        status=[RunStatus.FAILED, "canceled"],
        metadata={"vip": True, "tier": ["gold", 2, 1.5]},
        started_after=datetime(2026, 1, 31, tzinfo=UTC),
        limit=10,
    )
    assert [run.run_id for run in page.runs] == [RUN]
    assert script.requests[0].url.path == "/v1/runs"
    assert sorted(script.requests[0].url.params.multi_items()) == [
        ("limit", "10"),
        ("metadata.tier", "1.5"),
        ("metadata.tier", "2"),
        ("metadata.tier", "gold"),
        ("metadata.vip", "true"),
        ("ref_id", "o-1"),
        ("ref_type", "order"),
        ("started_after", "2026-01-31T00:00:00Z"),
        ("status", "canceled"),
        ("status", "failed"),
        ("workflow_type", "Order"),
    ]


@pytest.mark.parametrize(
    "filters",
    [
        {"status": "nonsense"},
        {"limit": 501},
        {"started_after": datetime(2026, 1, 31)},  # noqa: DTZ001
        {"metadata": {"k": {"nested": 1}}},
        {"ref_id": "alone"},
    ],
)
async def test_bad_filters_are_refused_before_sending(
    caller: Caller, filters: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidRequest):
        await caller.call(Script(), "list_runs", **filters)


OF_REF: dict[str, Any] = {"ref_type": "order", "ref_id": "o-1", "workflows": []}
WORKFLOW = {
    "workflow_type": "Order",
    "created_at": "2026-01-31T00:00:00Z",
    "runs_count": 1,
    "latest_run_id": str(RUN),
    "latest_status": "running",
    "latest_ordered_at": "2026-01-31T00:00:00Z",
}
BULK = {
    "bulk_id": str(RUN),
    "action": "cancel",
    "filter": {},
    "actor": "me",
    "status": "acting",
    "rate": 20.0,
    "created_at": "2026-01-31T00:00:00Z",
    "updated_at": "2026-01-31T00:00:00Z",
}


async def test_iter_runs_asks_for_page_after_page(caller: Caller) -> None:
    script = Script(
        ok(runs=[RUN_BODY], next_cursor="abc"),
        ok(runs=[], next_cursor="def"),
        ok(runs=[RUN_BODY | {"run_id": str(NEXT)}]),
    )
    runs = await caller.call(script, "iter_runs", status="failed", limit=1)
    assert [run.run_id for run in runs] == [RUN, NEXT]
    cursors = [request.url.params.get("cursor") for request in script.requests]
    assert cursors == [None, "abc", "def"]
    assert {request.url.params["status"] for request in script.requests} == {"failed"}


@pytest.mark.parametrize(
    ("method", "args", "field", "entry", "around"),
    [
        ("iter_runs_by_ref", ("order/o-1",), "runs", RUN_BODY, OF_REF),
        ("iter_workflows", (), "workflows", WORKFLOW, {}),
        ("iter_bulks", (), "bulks", BULK, {}),
    ],
)
async def test_iterators_ask_for_page_after_page(
    caller: Caller,
    method: str,
    args: tuple[str, ...],
    field: str,
    entry: dict[str, Any],
    around: dict[str, Any],
) -> None:
    pages = [{field: [entry, entry], "next_cursor": "abc"}, {field: [entry]}]
    script = Script(*(ok(**(around | page)) for page in pages))
    assert len(await caller.call(script, method, *args)) == 3
    cursors = [request.url.params.get("cursor") for request in script.requests]
    assert cursors == [None, "abc"]


@pytest.mark.parametrize("ref_id", ["o-1", "a/b", "..", "100% ä?#&"])
async def test_a_ref_survives_the_path(caller: Caller, ref_id: str) -> None:
    script = Script(ok(ref_type="order", ref_id=ref_id, workflows=[], runs=[]))
    overview = await caller.call(script, "runs_by_ref", Ref("order", ref_id), limit=5)
    assert overview.ref_id == ref_id
    url = script.requests[0].url
    assert url.path == f"/v1/refs/order/{ref_id}"
    assert dict(url.params) == {"limit": "5"}


@pytest.mark.parametrize(
    ("method", "args", "options", "path", "body"),
    [
        ("cancel", (), {"reason": "why"}, "cancel", {"reason": "why"}),
        ("terminate", (), {}, "terminate", {}),
        ("signal", ("paid", 1, {"a": 2}), {}, "signal", {"name": "paid", "args": [1, {"a": 2}]}),
    ],
)
async def test_control_calls(
    caller: Caller,
    method: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    path: str,
    body: dict[str, Any],
) -> None:
    script = Script(ok(run_id=str(RUN), action=method))
    answer = await caller.call(script, method, str(RUN), *args, **options)
    assert (answer.action, answer.accepted) == (method, True)
    assert script.requests[0].url.path == f"/v1/runs/{RUN}/{path}"
    assert script.bodies == [body]


async def test_query_gives_the_result_and_update_the_whole_answer(caller: Caller) -> None:
    script = Script(ok(run_id=str(RUN), result={"n": 1}))
    assert await caller.call(script, "query", RUN, "progress", "a") == {"n": 1}
    script = Script(ok(run_id=str(RUN), done=False, update_id="u-1"))
    answer = await caller.call(script, "update", RUN, "approve", update_id="u-1", wait=5)
    assert (answer.done, answer.update_id) == (False, "u-1")
    assert script.bodies == [{"name": "approve", "args": [], "update_id": "u-1", "wait": 5.0}]
    assert script.requests[0].extensions["timeout"]["read"] == 15.0


async def test_reads_are_typed(caller: Caller) -> None:
    step = {"step_id": str(NEXT), "kind": "activity", "name": "send", "status": "completed"}
    reads = {
        "get_run": ((RUN,), ok(**RUN_BODY, steps=[step])),
        "get_step": ((RUN, NEXT), ok(**step)),
        "timeline": ((RUN,), ok(run_id=str(RUN), entries=[])),
        "list_workflows": ((), ok(workflows=[])),
        "workflow_types": (
            (),
            ok(workflow_types=[{"name": "Order", "first_seen_at": "2026-01-31T00:00:00Z"}]),
        ),
        "ready": ((), ok(status="degraded")),
    }
    got = {name: await caller.call(Script(a), name, *args) for name, (args, a) in reads.items()}
    assert got["get_run"].steps[0].name == "send"
    assert got["get_step"].step_id == NEXT
    assert got["timeline"].entries == []
    assert got["list_workflows"].workflows == []
    assert [known.name for known in got["workflow_types"]] == ["Order"]
    assert (got["ready"].status, got["ready"].temporal) == ("degraded", None)


async def test_the_key_travels_in_its_header_and_stays_out_of_repr(caller: Caller) -> None:
    script = Script(ok(runs=[]))
    client = caller.client(script, api_key="ft_secret")
    await settle(client.list_runs())
    await settle(client.close())
    assert script.requests[0].headers["X-API-Key"] == "ft_secret"
    assert "secret" not in repr(client)


@pytest.mark.parametrize("run_id", ["", "../admin", "not-a-uuid"])
async def test_a_run_id_is_a_uuid(caller: Caller, run_id: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="run_id"):
        await caller.call(Script(), "get_run", run_id)


@pytest.mark.parametrize(
    "base_url", ["tracker.test", "ftp://tracker.test", "http://", "http://a:b", ""]
)
def test_base_url_must_be_http(base_url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="base_url"):
        TrackerClient(base_url)


@pytest.mark.parametrize("api_key", ["", "ft_x\n", "ft x", "ft_ä"])
def test_a_key_that_no_header_carries_is_refused_without_repeating_it(api_key: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="api_key") as caught:
        TrackerClient("http://tracker.test", api_key)
    assert "ft" not in caught.value.message.replace("flowtrail", "")


def test_both_clients_have_the_same_methods_and_parameters() -> None:
    def surface(client: type) -> dict[str, list[tuple[str, Any]]]:
        return {
            name: [(p.name, p.kind) for p in inspect.signature(member).parameters.values()]
            for name, member in inspect.getmembers(client)
            if inspect.isfunction(member) and (not name.startswith("_") or name == "__init__")
        }

    assert surface(TrackerClient) == surface(AsyncTrackerClient)


async def test_clients_are_context_managers(caller: Caller) -> None:
    script = Script(ok(runs=[]))
    client = caller.client(script)
    if isinstance(client, TrackerClient):
        with client as opened:
            opened.list_runs()
    else:
        async with client as opened:
            await opened.list_runs()
    with pytest.raises(RuntimeError, match="closed"):
        await settle(client.list_runs())


@pytest.mark.parametrize(
    ("method", "args", "options", "request_line", "body"),
    [
        ("rerun", (RUN,), {}, f"POST /v1/runs/{RUN}/rerun", {}),
        (
            "rerun",
            (RUN, None),
            {"idempotency_key": "k"},
            f"POST /v1/runs/{RUN}/rerun",
            {"input": None, "idempotency_key": "k"},
        ),
        ("pause", (RUN,), {"reason": "why"}, f"POST /v1/runs/{RUN}/pause", {"reason": "why"}),
        ("retry_step", (RUN, NEXT), {}, f"POST /v1/runs/{RUN}/steps/{NEXT}/retry", {}),
        (
            "patch_metadata",
            (RUN, {"a": None}),
            {},
            f"PATCH /v1/runs/{RUN}",
            {"metadata": {"a": None}},
        ),
    ],
)
async def test_calls_that_change_runs(
    caller: Caller,
    method: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    request_line: str,
    body: dict[str, Any],
) -> None:
    script = Script(ok(**(RUN_BODY | {"action": method})))
    await caller.call(script, method, *args, **options)
    [sent] = script.requests
    assert f"{sent.method} {sent.url.path}" == request_line
    assert script.bodies == [body]


async def test_a_bulk_action_sends_its_filter_as_a_body(caller: Caller) -> None:
    script = Script(ok(count=1, exceeds_max_runs=False, runs=[RUN_BODY]))
    filters = {"ref": "order/1", "status": "failed", "metadata": {"n": 1}}
    preview = await caller.call(script, "preview_bulk", "signal", filters, signal_name="go")
    assert preview.count == 1
    assert script.bodies == [
        {
            "action": "signal",
            "filter": {
                "ref_type": "order",
                "ref_id": "1",
                "status": ["failed"],
                "metadata": {"n": ["1"]},
            },
            "signal_name": "go",
            "dry_run": True,
        }
    ]


async def test_a_bulk_action_on_everything_is_refused_before_sending(caller: Caller) -> None:
    with pytest.raises(errors.InvalidRequest, match="at least one filter"):
        await caller.call(Script(), "start_bulk", "cancel", {})


FAILED_STEP = {
    "step_id": str(NEXT),
    "temporal_run_id": str(NEXT),
    "kind": "activity",
    "name": "charge",
    "status": "failed",
    "error_type": "Declined",
    "first_failed_at": "2026-01-31T00:00:00Z",
    "failed_at": "2026-01-31T00:00:00Z",
    "failure": str(NEXT),
}


async def test_looking_across_runs(caller: Caller) -> None:
    script = Script(ok(steps=[FAILED_STEP], next_cursor="c"), ok(steps=[FAILED_STEP]))
    found = await caller.call(script, "iter_failed_steps", status="failed", min_attempts=2)
    assert [step.name for step in found] == ["charge", "charge"]
    assert dict(script.requests[1].url.params) == {
        "status": "failed",
        "min_attempts": "2",
        "cursor": "c",
    }
    script = Script(ok(groups=[], sampled=0, since="2026-01-31T00:00:00Z", truncated=False))
    await caller.call(script, "failures", window=timedelta(hours=2), error_text="no")
    assert dict(script.requests[0].url.params) == {"window": "7200.0", "error_text": "no"}
    script = Script(ok(workflow_type="a/b", runs=0, nodes=[], edges=[]))
    await caller.call(script, "workflow_graph", "a/b", window=60)
    assert script.requests[0].url.raw_path == b"/v1/workflow-types/a%2Fb/graph?window=60"


async def test_durations_of_runs_are_sent_as_seconds(caller: Caller) -> None:
    script = Script(ok(runs=[]))
    await caller.call(script, "list_runs", min_duration=timedelta(minutes=1), failure=RUN)
    assert dict(script.requests[0].url.params) == {"min_duration": "60.0", "failure": str(RUN)}
