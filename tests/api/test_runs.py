"""Reading runs over HTTP: by id, by ref, by filter; their steps, values, timeline and result."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.api.recorded import payload, record, recorded_run
from tests.factories import NOON, ARun
from tests.store.test_dead_entries import a_dead_start
from tracker.core.events import AttemptEnded, Failure, RunRefAdded, StepClosed, WorkflowTypeSeen
from tracker.core.ids import Ref, new_id
from tracker.core.payloads import Handling, StoredPayload, Treatment, store_json
from tracker.core.status import AttemptOutcome, RunStatus, StepStatus
from tracker.encryption import new_keyring
from tracker.store import run_detail
from tracker.store.database import Database


async def get(api: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await api.get(path, params=params or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def run(database: str) -> ARun:
    """A run whose step failed once, then succeeded, and that is still open."""
    run = ARun()
    failed = AttemptEnded(
        attempt=run.attempt(1),
        outcome=AttemptOutcome.FAILED,
        finished_at=run.started_at + timedelta(seconds=1.2),
        next_retry_at=run.started_at + timedelta(seconds=2),
        error=Failure(type="CardDeclined", message="no funds", stack="at charge"),
    )
    await record(
        database,
        run.started(metadata={"tier": "gold", "n": 3}, input=payload([{"amount": 5}])),
        run.attempt_started(1, input=payload([5])),
        failed,
        run.attempt_started(2),
        run.attempt_completed(2, output=payload("receipt-1")),
    )
    return run


async def test_a_run_whose_start_is_dead_tells_why(api: httpx.AsyncClient, store: Database) -> None:
    run_id = await a_dead_start(store)
    shown = await get(api, f"/v1/runs/{run_id}")
    assert shown["status"] == "accepted"
    [entry] = shown["outbox"]
    assert (entry["id"], entry["kind"]) == (str(run_id), "start")
    assert (entry["last_error"], entry["due_at"]) == ("broken", None)
    assert entry["dead_at"] is not None
    metrics = (await api.get("/metrics")).text
    assert "flowtrail_outbox_dead 1.0" in metrics
    assert "flowtrail_outbox_size 1.0" in metrics


async def test_a_run_by_our_id_and_by_temporals(api: httpx.AsyncClient, run: ARun) -> None:
    ours = await get(api, f"/v1/runs/{run.identity.id}")
    assert ours == await get(api, f"/v1/runs/{run.run_key}")
    assert ours["run_id"] == str(run.identity.id)
    assert ours["temporal_run_id"] == str(run.run_key)
    assert (ours["status"], ours["ref_type"], ours["ref_id"]) == ("running", "order", "o-1")
    assert ours["input"]["value"] == [{"amount": 5}]
    assert ours["refs"] == [{"ref_type": "order", "ref_id": "o-1", "primary": True}]
    assert not ours["steps_truncated"]


async def test_every_attempt_of_a_step(api: httpx.AsyncClient, run: ARun) -> None:
    [step] = (await get(api, f"/v1/runs/{run.identity.id}"))["steps"]
    assert (step["name"], step["status"], step["attempts_count"]) == ("charge", "completed", 2)
    first, second = step["attempts"]
    assert first["outcome"] == "failed"
    assert first["error"] == {"type": "CardDeclined", "message": "no funds", "stack": "at charge"}
    assert first["next_retry_at"] == "2026-03-01T12:00:02Z"
    assert (second["number"], second["outcome"]) == (2, "completed")


async def test_a_step_has_its_values(api: httpx.AsyncClient, run: ARun) -> None:
    step = await get(api, f"/v1/runs/{run.identity.id}/steps/{run.step().id}")
    assert (step["input"]["value"], step["output"]["value"]) == ([5], "receipt-1")
    assert len(step["attempts"]) == 2


async def test_a_step_of_another_run_is_not_found(
    api: httpx.AsyncClient, database: str, run: ARun
) -> None:
    other = await recorded_run(database, ARun())
    answer = await api.get(f"/v1/runs/{other.identity.id}/steps/{run.step().id}")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


async def test_an_attempt_that_never_reported_is_lost(
    api: httpx.AsyncClient, database: str
) -> None:
    run = ARun()
    await record(database, run.started(), run.attempt_started(1), run.attempt_started(2))
    [step] = (await get(api, f"/v1/runs/{run.identity.id}"))["steps"]
    assert [attempt["outcome"] for attempt in step["attempts"]] == ["lost", "running"]


async def test_the_timeline_is_in_order(api: httpx.AsyncClient, database: str, run: ARun) -> None:
    await record(database, run.closed(finished_at=run.started_at + timedelta(seconds=3)))
    timeline = await get(api, f"/v1/runs/{run.identity.id}/timeline")
    assert [entry["event"] for entry in timeline["entries"]] == [
        "run.started",
        "step.scheduled",
        "attempt.started",
        "attempt.failed",
        "attempt.started",
        "attempt.completed",
        "step.completed",
        "run.completed",
    ]
    failed = timeline["entries"][3]
    assert failed["message"] == "no funds"
    assert failed["next_retry_at"] == "2026-03-01T12:00:02Z"
    moments = [datetime.fromisoformat(entry["at"]) for entry in timeline["entries"]]
    assert moments == sorted(moments)


async def test_more_steps_and_attempts_than_an_answer_holds(
    api: httpx.AsyncClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ARun()
    await record(
        database,
        run.started(),
        *(run.attempt_started(number) for number in (1, 2, 3)),
        *(
            StepClosed(
                step=run.step("other", str(key)), status=StepStatus.COMPLETED, finished_at=NOON
            )
            for key in range(5)
        ),
    )
    monkeypatch.setattr(run_detail, "STEPS_MAX", 4)
    monkeypatch.setattr(run_detail, "ATTEMPTS_PER_STEP", 2)
    answer = await get(api, f"/v1/runs/{run.identity.id}")
    assert (len(answer["steps"]), answer["steps_truncated"]) == (4, True)
    [charge] = [step for step in answer["steps"] if step["name"] == "charge"]
    assert [attempt["number"] for attempt in charge["attempts"]] == [2, 3]
    assert charge["attempts_truncated"]
    assert answer["attempts_truncated"]
    monkeypatch.setattr(run_detail, "ATTEMPTS_MAX", 2)
    step = await get(api, f"/v1/runs/{run.identity.id}/steps/{run.step().id}")
    assert ([a["number"] for a in step["attempts"]], step["attempts_truncated"]) == ([2, 3], True)


async def test_another_namespace_does_not_exist(api: httpx.AsyncClient, database: str) -> None:
    run = await recorded_run(database, ARun(namespace="elsewhere"))
    for path in (f"/v1/runs/{run.identity.id}", f"/v1/runs/{run.run_key}/timeline"):
        answer = await api.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    assert (await get(api, "/v1/runs"))["runs"] == []
    assert (await get(api, "/v1/refs/order/o-1"))["runs"] == []
    assert (await get(api, "/v1/workflows"))["workflows"] == []


class TestResult:
    async def test_of_an_open_run(self, api: httpx.AsyncClient, run: ARun) -> None:
        answer = await get(api, f"/v1/runs/{run.identity.id}/result")
        assert (answer["status"], answer["done"], answer["output"]) == ("running", False, None)

    async def test_waits_for_the_end(
        self, api: httpx.AsyncClient, database: str, run: ARun
    ) -> None:
        waiting = asyncio.create_task(get(api, f"/v1/runs/{run.run_key}/result", wait=20))
        await record(database, run.closed(output=payload({"sent": 3})))
        answer = await waiting
        assert (answer["done"], answer["output_available"]) == (True, True)
        assert answer["output"] == {"sent": 3}

    async def test_of_a_failed_run(self, api: httpx.AsyncClient, database: str, run: ARun) -> None:
        error = Failure(type="CardDeclined", message="no funds")
        await record(database, run.closed(RunStatus.FAILED, error=error))
        answer = await get(api, f"/v1/runs/{run.identity.id}/result")
        assert (answer["status"], answer["done"]) == ("failed", True)
        assert answer["error"]["type"] == "CardDeclined"

    @pytest.mark.parametrize(
        ("output", "available", "shown"),
        [
            (payload(None), True, None),
            (payload({"a": "\x00"}), True, {"a": "\x00"}),
            (payload({"a": 1}, Treatment.DIGEST), False, None),
            (payload("\ud800"), False, None),
            (payload(float("nan")), False, None),
            (StoredPayload(b"d" * 32, 0, Treatment.FULL, "binary/null", data=b""), True, None),
            (StoredPayload(b"d" * 32, 3, Treatment.FULL, "binary/plain", data=b"x"), False, None),
            (
                StoredPayload(b"d" * 32, 3, Treatment.FULL, "json/plain", body=b"1e5000"),
                True,
                None,
            ),
        ],
        ids=["null", "NUL", "digest", "surrogate", "NaN", "binary null", "binary", "huge"],
    )
    async def test_values_of_every_kind(
        self,
        api: httpx.AsyncClient,
        database: str,
        run: ARun,
        output: StoredPayload,
        available: bool,
        shown: Any,
    ) -> None:
        await record(database, run.closed(output=output))
        answer = await get(api, f"/v1/runs/{run.identity.id}/result")
        assert (answer["output_available"], answer["output"]) == (available, shown)
        detail = await get(api, f"/v1/runs/{run.identity.id}")
        assert detail["output"]["treatment"] == output.treatment


class TestLists:
    async def test_by_metadata(self, api: httpx.AsyncClient, database: str, run: ARun) -> None:
        other = await recorded_run(database, ARun(), metadata={"tier": "silver", "n": 3})

        async def found(query: str) -> set[UUID]:
            answer = await get(api, f"/v1/runs?{query}")
            return {UUID(each["run_id"]) for each in answer["runs"]}

        assert await found("metadata.tier=gold") == {run.identity.id}
        assert await found("metadata.tier=gold&metadata.tier=silver") == {
            run.identity.id,
            other.identity.id,
        }
        assert await found("metadata.tier=silver&metadata.n=3") == {other.identity.id}
        assert await found("metadata.tier=gold&metadata.n=4") == set()

    async def test_pages(self, api: httpx.AsyncClient, database: str) -> None:
        runs = [ARun(started_at=NOON + timedelta(minutes=n)) for n in range(5)]
        await record(database, *(run.started() for run in runs))
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 2, "status": ["running", "failed"]}
        while True:
            page = await get(api, "/v1/runs", **params)
            seen += [run["run_id"] for run in page["runs"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert seen == [str(run.identity.id) for run in reversed(runs)]

    async def test_by_time(self, api: httpx.AsyncClient, run: ARun) -> None:
        at = run.started_at
        inside = {"started_after": at.isoformat(), "started_before": "2026-03-01T14:00:00+01:30"}
        assert len((await get(api, "/v1/runs", **inside))["runs"]) == 1
        late = {"started_after": (at + timedelta(microseconds=1)).isoformat()}
        assert (await get(api, "/v1/runs", **late))["runs"] == []


class TestRefs:
    async def test_everything_of_one_object(
        self, api: httpx.AsyncClient, database: str, run: ARun
    ) -> None:
        again = ARun(started_at=NOON + timedelta(hours=1))
        linked = ARun(workflow_type="Invoice", ref=Ref("invoice", "i/7"))
        await record(
            database,
            again.started(input=payload([{"amount": 6}])),
            again.closed(output=payload("done")),
            linked.started(),
            RunRefAdded(run=linked.identity, history_length=4, ref=Ref("order", "o-1")),
        )
        answer = await get(api, "/v1/refs/order/o-1")
        assert {each["run_id"] for each in answer["runs"]} == {
            str(each.identity.id) for each in (run, again, linked)
        }
        [workflow] = answer["workflows"]
        assert workflow["workflow_type"] == "OrderFulfilment"
        assert workflow["runs_count"] == 2
        assert workflow["first_input"]["value"] == [{"amount": 5}]
        assert workflow["latest_run_id"] == str(again.identity.id)
        assert (workflow["latest_status"], workflow["latest_output"]["value"]) == (
            "completed",
            "done",
        )
        [other] = (await get(api, "/v1/refs/invoice/i/7"))["workflows"]
        assert other["workflow_type"] == "Invoice"

    async def test_a_ref_that_nobody_used(self, api: httpx.AsyncClient) -> None:
        answer = await get(api, "/v1/refs/order/never")
        assert (answer["workflows"], answer["runs"], answer["next_cursor"]) == ([], [], None)


class TestWorkflows:
    async def test_one_without_ref_counts_its_runs(
        self, api: httpx.AsyncClient, database: str
    ) -> None:
        runs = [ARun(ref=None, started_at=NOON + timedelta(hours=n)) for n in range(3)]
        await record(database, *(run.started() for run in runs))
        [workflow] = (await get(api, "/v1/workflows"))["workflows"]
        assert (workflow["ref_type"], workflow["runs_count"]) == (None, 3)
        assert workflow["latest_run_id"] == str(runs[-1].identity.id)

    async def test_pages_and_filters(self, api: httpx.AsyncClient, database: str) -> None:
        runs = [
            ARun(
                workflow_type=kind,
                ref=Ref("order", f"o-{n}"),
                started_at=NOON + timedelta(minutes=n),
            )
            for n in range(3)
            for kind in ("Order", "Email")
        ]
        await record(database, *(run.started() for run in runs))

        async def walk(**params: Any) -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            while True:
                page = await get(api, "/v1/workflows", limit=2, **params)
                found += [(each["workflow_type"], each["ref_id"]) for each in page["workflows"]]
                if page["next_cursor"] is None:
                    return found
                params["cursor"] = page["next_cursor"]

        assert [ref_id for _, ref_id in await walk()] == ["o-2", "o-2", "o-1", "o-1", "o-0", "o-0"]
        assert await walk(workflow_type="Email") == [("Email", f"o-{n}") for n in (2, 1, 0)]
        assert len(await walk(workflow_type=["Email", "Order", "Absent"])) == 6
        assert await walk(ref_type="order", ref_id="o-1", workflow_type=["Order"]) == [
            ("Order", "o-1")
        ]

    async def test_one_whose_only_run_got_its_ref_later_is_gone(
        self, api: httpx.AsyncClient, database: str
    ) -> None:
        run = await recorded_run(database, ARun(ref=None))
        ref = RunRefAdded(
            run=run.identity, history_length=4, ref=Ref("order", "late"), primary=True
        )
        await record(database, ref)
        found = (await get(api, "/v1/workflows"))["workflows"]
        assert [each["ref_id"] for each in found] == ["late"]


async def test_workflow_types(api: httpx.AsyncClient, database: str) -> None:
    schema = {"type": "object"}
    announced = WorkflowTypeSeen(
        namespace="default",
        name="EmailCampaign",
        task_queue="mail",
        aliases=("email_campaign",),
        input_schema=schema,
    )
    await record(database, announced)
    [found] = (await get(api, "/v1/workflow-types"))["workflow_types"]
    assert (found["name"], found["aliases"]) == ("EmailCampaign", ["email_campaign"])
    assert (found["task_queue"], found["input_schema"]) == ("mail", schema)


async def test_an_unknown_run(api: httpx.AsyncClient) -> None:
    for path in ("", "/timeline", "/result", f"/steps/{new_id()}"):
        answer = await api.get(f"/v1/runs/{new_id()}{path}")
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


# Encrypted values


async def test_encrypted_values_are_shown_to_an_api_with_their_keys(database: str) -> None:
    ring, run = new_keyring("k1"), ARun()
    stored = store_json(b'[{"secret":1}]', Handling(Treatment.FULL, sealer=ring), "input")
    await record(database, run.started(input=stored))
    path = f"/v1/runs/{run.run_key}"
    async with served(create_app(api_settings(database, encryption_keys=ring.text()))) as client:
        shown = (await client.get(path)).json()["input"]
    assert (shown["value"], shown["key_id"]) == ([{"secret": 1}], "k1")
    async with served(create_app(api_settings(database))) as client:
        hidden = (await client.get(path)).json()["input"]
    assert (hidden["key_id"], hidden["value"], hidden["base64"]) == ("k1", None, None)
    other = new_keyring("k1").text()
    async with served(create_app(api_settings(database, encryption_keys=other))) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]) == (500, "decryption_failed")
    assert answer.json()["details"] == {"key_id": "k1"}
