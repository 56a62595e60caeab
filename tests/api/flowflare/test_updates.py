"""Reports of what a run does: its updates, and the helper that tracks steps."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import Any

import httpx
import pytest

from tests.api.flowflare.calls import call, refused, start, track_step, update, workflow
from tests.api.recorded import payload, record
from tests.factories import ARun
from tests.feed.test_feed import attempts_of
from tracker.core.status import RunStatus
from tracker.store.database import Database


async def test_a_run_as_its_owner_reports_it(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare, ref_id="c", ref_type="campaign", params={"a": 1})
    number = (await workflow(flowflare, run_id))["workflow_id"]
    answer = await update(flowflare, "run_update", id=run_id, workflow_id=1, status="Running")
    assert answer == {"success": True, "result": {"updated": True, "id": run_id}}
    await update(
        flowflare, "run_update", id=run_id, status="Sleeping", sleep_until="2099-01-01T00:00:00Z"
    )
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["sleep_until"]) == ("Sleeping", "2099-01-01T00:00:00.000Z")
    await update(flowflare, "run_update", id=run_id, status="Running", input_params='{"a":2}')
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["sleep_until"]) == ("Running", None)
    assert run["input_params"] == '{"a":1}'  # Never changes.
    result = '{ "success": true,  "z": 1, "a": 2 }'
    await update(flowflare, "run_update", id=run_id, status="Completed", output_result=result)
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["output_result"]) == ("Completed", result)
    assert run["completed_at"] is not None
    assert run["workflow_id"] == number
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()
    assert native["output"]["value"] == {"success": True, "z": 1, "a": 2}
    late = {"type": "run_update", "run_update": {"id": run_id, "status": "Errored"}}
    assert (await refused(flowflare, "/api/workflows/update", late))[0] == 409
    await update(flowflare, "run_update", id=run_id, status="Running")
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["completed_at"], run["output_result"]) == ("Running", None, None)
    failure = '{"success":false,"error":"boom"}'
    await update(flowflare, "run_update", id=run_id, status="Errored", output_result=failure)
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["output_result"]) == ("Errored", failure)
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()
    assert native["error"]["message"] == "boom"


async def test_a_reopened_run_leaves_its_verdict_in_the_audit(
    flowflare: httpx.AsyncClient, store: Database
) -> None:
    run_id = await start(flowflare)
    await update(flowflare, "run_update", id=run_id, status="Errored")
    await update(flowflare, "run_update", id=run_id, status="Running")
    async with store.connection() as connection:
        cursor = await connection.execute("SELECT actor, action, details FROM flowtrail.audit")
        [entry] = await cursor.fetchall()
    assert (entry["actor"], entry["action"]) == ("flowflare", "reopen")
    assert entry["details"]["status"] == "failed"


async def test_a_run_under_its_owners_id(flowflare: httpx.AsyncClient) -> None:
    known = await start(flowflare, ref_id="c", ref_type="campaign")
    number = (await workflow(flowflare, known))["workflow_id"]
    report = {"id": "instance-7", "status": "Running", "input_params": '{"b":1}'}
    status, error = await refused(
        flowflare, "/api/workflows/update", {"type": "run_update", "run_update": report}
    )
    assert (status, "workflow_id None" in error) == (400, True)
    for wrong in (12345, -1, 2**60):
        body = {"type": "run_update", "run_update": report | {"workflow_id": wrong}}
        status, error = await refused(flowflare, "/api/workflows/update", body)
        assert (status, f"workflow_id {wrong}" in error) == (400, True)
    answer = await update(flowflare, "run_update", workflow_id=number, **report)
    assert answer["result"] == {"inserted": True, "id": "instance-7"}
    run = await workflow(flowflare, "instance-7")
    assert (run["id"], run["status"], run["input_params"]) == ("instance-7", "Running", '{"b":1}')
    assert (run["ref_id"], run["workflow_id"]) == ("c", number)
    workflows = (await flowflare.get("/v1/refs/campaign/c")).json()["workflows"]
    assert [one["runs_count"] for one in workflows] == [2]


async def test_the_helper_tracks_steps(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare)
    await update(flowflare, "run_update", id=run_id, status="Running")
    await track_step(flowflare, run_id, "validate", 1)
    await track_step(flowflare, run_id, "send", 2, fails=2)
    first, second = (await workflow(flowflare, run_id))["steps"]
    assert (first["step_name"], first["step_index"], first["status"]) == (
        "validate",
        1,
        "Completed",
    )
    assert (first["state"], first["retries"]) == ('{"sent":1}', [])
    assert first["started_at"] == "2026-03-01T12:00:09.000Z"
    assert first["completed_at"] == "2026-03-01T12:00:10.000Z"
    assert [(r["retry_count"], r["last_error"]) for r in second["retries"]] == [
        (1, "boom 1"),
        (2, "boom 2"),
    ]
    assert second["retries"][0]["retry_at"] == "2026-03-01T12:00:01.500Z"
    assert second["started_at"] == "2026-03-01T12:00:01.000Z"
    steps = (await flowflare.get(f"/v1/runs/{run_id}")).json()["steps"]
    native = next(step for step in steps if step["name"] == "send")
    outcomes = [attempt["outcome"] for attempt in native["attempts"]]
    assert outcomes == ["failed", "failed", "completed"]
    assert native["max_attempts"] == 4


async def test_a_step_on_its_way(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare)
    named = {"workflow_instance_id": run_id, "step_name": "s", "step_index": 0}

    async def shown() -> tuple[str, str | None]:
        [step] = (await workflow(flowflare, run_id))["steps"]
        return step["status"], step["state"]

    answer = await update(flowflare, "step_update", status="Pending", **named)
    assert answer["result"]["inserted"] is True
    assert await shown() == ("Pending", None)
    await update(flowflare, "step_update", status="Running", **named)
    await update(flowflare, "step_update", status="Running", **named)
    assert await shown() == ("Running", None)
    state = '{ "error": "no",  "retry": {"count": 1, "maxRetries": 3} }'
    await update(flowflare, "step_update", status="Retrying", state=state, **named)
    assert await shown() == ("Retrying", state)
    await update(flowflare, "step_update", status="Running", **named)
    assert await shown() == ("Running", None)
    await update(flowflare, "step_update", status="Failed", state='{"error":"no"}', **named)
    assert await shown() == ("Failed", '{"error":"no"}')
    [step] = (await workflow(flowflare, run_id))["steps"]
    assert [retry["retry_count"] for retry in step["retries"]] == [1]
    await update(flowflare, "step_update", status="Running", **named)
    await update(flowflare, "step_update", status="Completed", state="done", **named)
    assert await shown() == ("Completed", "done")
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()["steps"][0]
    assert native["attempts_count"] == 3


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"type": "shout"}, 400, "Unknown update type: shout"),
        ({}, 400, "Unknown update type: None"),
        ({"type": "run_update"}, 400, "run_update is missing"),
        ({"type": "run_update", "run_update": {"status": "Running"}}, 400, "id"),
        ({"type": "run_update", "run_update": {"id": "x", "status": "Done"}}, 400, "status"),
        ({"type": "run_update", "run_update": {"id": "x", "name = 1; --": 1}}, 400, "name = 1; --"),
        (
            {
                "type": "step_update",
                "step_update": {
                    "workflow_run_id": "unknown",
                    "step_name": "s",
                    "step_index": 1,
                    "status": "Running",
                },
            },
            404,
            "report the run before its steps",
        ),
        ({"type": "step_update", "step_update": {"step_name": "s"}}, 400, "workflow_run_id"),
        ({"type": "retry_update", "retry_update": {"surprise": 1}}, 400, "retry_count"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_updates_that_are_refused(
    flowflare: httpx.AsyncClient, body: Any, status: int, message: str
) -> None:
    got, error = await refused(flowflare, "/api/workflows/update", body)
    assert got == status
    assert message in error or status == 400


async def test_a_hundred_starts_at_once_are_counted(flowflare: httpx.AsyncClient) -> None:
    given = {"ref_id": "c", "ref_type": "campaign"}
    ids = await asyncio.gather(*(start(flowflare, **given) for _ in range(100)))
    assert len(set(ids)) == 100
    [counted] = (await flowflare.get("/v1/refs/campaign/c")).json()["workflows"]
    assert counted["runs_count"] == 100
    # A late report of an older run is not the workflow's status.
    await update(flowflare, "run_update", id=ids[0], status="Errored")
    [counted] = (await flowflare.get("/v1/refs/campaign/c")).json()["workflows"]
    oldest_is_latest = counted["latest_run_id"] == ids[0]
    assert counted["latest_status"] == ("failed" if oldest_is_latest else "accepted")


async def test_what_temporal_drives_looks_alike(
    flowflare: httpx.AsyncClient, database: str
) -> None:
    run = ARun()
    started, ended = attempts_of(run)
    await record(database, run.started(input=payload([{"a": 1}])), started)
    [shown] = (await call(flowflare, "/service/list-workflows"))["workflows"]
    assert (shown["status"], shown["input_params"]) == ("Running", '{"a":1}')
    [step] = shown["steps"]
    assert (step["status"], step["state"], step["step_index"]) == ("Running", None, 1)
    await record(database, ended, run.closed(RunStatus.COMPLETED, output=payload({"sent": 1})))
    [shown] = (await call(flowflare, "/service/list-workflows"))["workflows"]
    assert (shown["status"], shown["output_result"]) == ("Completed", '{"sent":1}')
    assert shown["completed_at"] == "2026-03-01T12:00:09.000Z"
    assert shown["steps"][0]["status"] == "Completed"


@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"]
)
async def test_times_that_nobody_can_read_back_are_refused(
    flowflare: httpx.AsyncClient, moment: str
) -> None:
    run_id = await start(flowflare)
    sleeping = {"id": run_id, "status": "Sleeping", "sleep_until": moment}
    step = {"workflow_run_id": run_id, "step_name": "s", "step_index": 0, "status": "Completed"}
    for kind, told in (
        ("run_update", sleeping),
        ("step_update", step | {"completed_at": moment}),
    ):
        status, error = await refused(
            flowflare, "/api/workflows/update", {"type": kind, kind: told}
        )
        assert status == 400
        assert "expected a time from 1900 to 9998" in error
    native = await flowflare.post(
        f"/v1/external/runs/{run_id}/steps",
        json={"name": "s", "status": "scheduled", "next_retry_at": moment},
    )
    assert native.status_code == 422
    assert (await workflow(flowflare, run_id))["steps"] == []


async def test_a_failure_is_kept_however_long_it_is(flowflare: httpx.AsyncClient) -> None:
    """Its reporter does not look at the answer."""
    run_id = await start(flowflare)
    long = json.dumps({"success": False, "error": "boom\x00", "partial": "x" * 70_000})
    await update(flowflare, "run_update", id=run_id, status="Errored", output_result=long)
    run = await workflow(flowflare, run_id)
    assert run["status"] == "Errored"
    assert run["output_result"].startswith('{"success": false, "error": "boom')
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()
    assert native["error"]["message"] == "boom\N{REPLACEMENT CHARACTER}"
    step = {"workflow_run_id": run_id, "step_name": "s", "step_index": 0, "status": "Failed"}
    await update(flowflare, "step_update", **step, state="y" * 70_000)
    [shown] = (await workflow(flowflare, run_id))["steps"]
    assert shown["status"] == "Failed"


async def test_what_is_not_json_stays_text(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare)
    step = {"workflow_run_id": run_id, "step_name": "s", "status": "Completed"}
    told = ["NaN", "Infinity", "1e999", 12345678901234567]
    for index, state in enumerate(told):
        await update(flowflare, "step_update", **step, step_index=index, state=state)
    shown = (await workflow(flowflare, run_id))["steps"]
    assert [one["state"] for one in shown] == ["NaN", "Infinity", "1e999", "12345678901234567"]
    answer = await flowflare.post(
        "/service/start-workflow", content='{"workflowType": "nightly", "params": {"x": 1e999}}'
    )
    assert answer.status_code == 400
    assert "too large" in answer.json()["error"]


async def test_half_a_character_is_kept(flowflare: httpx.AsyncClient) -> None:
    """JavaScript cuts emojis in two. As bytes, for jsonb does not take it."""
    run_id = await start(flowflare)
    step = {"workflow_run_id": run_id, "step_name": "s", "status": "Completed"}
    for index, state in enumerate(('{"text":"cut \\ud83d"}', '{"text":"cut \ud83d"}')):
        body = {"type": "step_update", "step_update": {**step, "step_index": index, "state": state}}
        answer = await flowflare.post("/api/workflows/update", content=json.dumps(body))
        assert answer.status_code == 200, answer.text
    shown = (await workflow(flowflare, run_id))["steps"]
    assert [one["status"] for one in shown] == ["Completed"] * 2
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()["steps"]
    for step_id in [one["step_id"] for one in native]:
        one = (await flowflare.get(f"/v1/runs/{run_id}/steps/{step_id}")).json()
        kept = b64decode(one["output"]["base64"])
        assert json.loads(kept) == {"text": "cut \ud83d"}


async def test_nesting_beyond_what_can_be_kept(flowflare: httpx.AsyncClient) -> None:
    """Some depths can be read and not be written: where the stack ends."""
    run_id = await start(flowflare)
    step = {"workflow_run_id": run_id, "step_name": "s", "step_index": 0, "status": "Completed"}
    told: set[int] = set()
    for depth in range(850, 1010):
        update = {**step, "state": "[" * depth + "]" * depth}
        body = {"type": "step_update", "step_update": update}
        told.add((await flowflare.post("/api/workflows/update", json=body)).status_code)
    assert told == {200, 400}


async def test_tries_that_each_count_from_one(flowflare: httpx.AsyncClient) -> None:
    """As `trackStep` counts, unless it is told otherwise."""
    run_id = await start(flowflare)
    step = {"workflow_run_id": run_id, "step_name": "s", "step_index": 0}
    state = json.dumps({"error": "no", "retry": {"count": 1, "maxRetries": 5}})
    for _ in range(3):
        await update(flowflare, "step_update", **step, status="Running")
        await update(flowflare, "step_update", **step, status="Retrying", state=state)
    await update(flowflare, "step_update", **step, status="Running")
    await update(flowflare, "step_update", **step, status="Completed", state="{}")
    [shown] = (await workflow(flowflare, run_id))["steps"]
    assert [one["retry_count"] for one in shown["retries"]] == [1, 2, 3]
    [native] = (await flowflare.get(f"/v1/runs/{run_id}")).json()["steps"]
    assert [one["number"] for one in native["attempts"]] == [1, 2, 3, 4]


async def test_empty_texts_are_none(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare, ref_id="", ref_type="campaign")
    assert (await workflow(flowflare, run_id))["ref_id"] is None
    asked = {"ref_id": "", "ref_type": "campaign", "status": ""}
    found = await call(flowflare, "/service/get-workflows-by-ref", **asked)
    assert [one["id"] for one in found["workflows"]] == [run_id]
    status, error = await refused(
        flowflare, "/service/get-workflows-by-ref", {"ref_id": "", "ref_type": ""}
    )
    assert (status, error) == (400, "Either ref_id or ref_type must be provided")


async def test_a_ticket_opens_sockets_alone(flowflare: httpx.AsyncClient) -> None:
    ticket = (await flowflare.post("/v1/tickets")).json()["ticket"]
    del flowflare.headers["X-API-Key"]
    answer = await flowflare.post(
        f"/service/start-workflow?ticket={ticket}", json={"workflowType": "nightly"}
    )
    assert answer.status_code == 401


async def test_fields_beside_the_update_are_refused(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare)
    body = {"type": "run_update", "run_update": {"id": run_id, "status": "Running"}, "more": 1}
    assert await refused(flowflare, "/api/workflows/update", body) == (
        400,
        "unknown beside type and run_update: more",
    )
