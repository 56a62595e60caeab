"""Runs that nobody recorded are brought in: by query, from files, twice, and after a kill."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.client import Client, WorkflowHistory

from tests.starts import count, rows
from tests.temporal.other_sdks import BEGIN, Details, a_history, go_details, java_details
from tests.temporal.projected import FULL, NOW, Projected
from tests.waiting import eventually
from tracker.core.fold import fold
from tracker.core.status import StepKind
from tracker.errors import InvalidRequest
from tracker.store.database import Database
from tracker.temporal.backfill import Backfill, BackfillReport
from tracker.temporal.executions import list_executions
from tracker.temporal.history import project
from tracker.temporal.history_files import read_history
from tracker.temporal.projector import Projector

sdks = pytest.mark.parametrize("details", [go_details, java_details], ids=["go", "java"])


@sdks
def test_local_activities_of_other_sdks_are_steps(details: Details) -> None:
    history = a_history(details)
    told = project(
        history.events,
        namespace="default",
        workflow_id="checkout-1",
        run_key=UUID(int=7),
        policy=FULL,
        projected_at=NOW,
    )
    found = Projected(fold(told))
    assert found.steps(StepKind.TIMER) == []  # The backoff is part of its local activity.
    reserve = found.step(StepKind.LOCAL_ACTIVITY, "reserve")
    charge = found.step(StepKind.LOCAL_ACTIVITY, "charge")
    assert (reserve["status"], charge["status"]) == ("completed", "completed")
    assert reserve["step_key"] != charge["step_key"]
    assert found.value(reserve["output_id"]) == {"ok": True}
    tries = [(a["number"], a["outcome"], a["error_message"]) for a in found.attempts(charge)]
    assert tries == [(1, "failed", "refused"), (2, "completed", None)]
    assert found.attempts(charge)[0]["next_retry_at"] == BEGIN + timedelta(seconds=21)
    if details is java_details:
        assert found.value(charge["input_id"]) == [{"sku": "s-1"}]


async def backfilled(
    store: Database, client: Client, query: str = "", *, dry_run: bool = False
) -> BackfillReport:
    async with Projector(client, store) as projector:
        return await Backfill(client, store, projector, dry_run=dry_run).from_temporal(query)


async def test_old_runs_are_brought_in_once(store: Database, temporal_client: Client) -> None:
    for n in range(5):
        handle = await temporal_client.start_workflow("Old", n, id=f"old-{n}", task_queue="none")
        if n:
            await handle.terminate()
    own = await temporal_client.start_workflow("flowtrail.x", id="own", task_queue="none")

    async def all_visible() -> bool:
        found = [i async for i in list_executions(temporal_client, "CloseTime IS NULL", seconds=5)]
        return len(found) == 2

    await eventually(all_visible)
    counted = await backfilled(store, temporal_client, dry_run=True)
    assert (counted.seen, counted.there, counted.projected) == (6, 0, 0)
    assert await count(store, "run") == 0

    done = await backfilled(store, temporal_client)
    assert (done.seen, done.excluded, done.projected, done.failed) == (6, 1, 5, 0)
    statuses = [row["status"] for row in await rows(store, "SELECT status FROM {schema}.run")]
    assert sorted(statuses) == ["running"] + 4 * ["terminated"]

    again = await backfilled(store, temporal_client, "WorkflowType = 'Old'")
    assert (again.seen, again.there, again.projected) == (5, 5, 0)
    with pytest.raises(InvalidRequest):
        await backfilled(store, temporal_client, "nonsense !")
    await own.terminate()


@sdks
async def test_dumps_are_read_whatever_wrote_them(
    store: Database, temporal_client: Client, tmp_path: Path, details: Details
) -> None:
    as_json, as_protobuf = tmp_path / "one.json", tmp_path / "two.pb"
    history = a_history(details)
    as_json.write_text(WorkflowHistory("", list(history.events)).to_json())
    as_protobuf.write_bytes(a_history(details).SerializeToString())
    broken = tmp_path / "three.json"
    broken.write_text('{"events": [{"eventId": "1", "eventType": "Nonsense"}]}')
    async with Projector(temporal_client, store) as projector:
        for projected in (2, 2):
            backfill = Backfill(temporal_client, store, projector)
            report = await backfill.from_files([as_json, broken, as_protobuf])
            assert (report.seen, report.projected, report.failed) == (3, projected, 1)
            [(name, why)] = report.reasons
            assert name == str(broken)
            assert "begins with WorkflowExecutionStarted" in why
    assert await count(store, "run") == 2
    run_keys = {row["run_key"] for row in await rows(store, "SELECT run_key FROM {schema}.run")}
    assert read_history(as_json).run_key in run_keys


def test_what_is_no_history_is_told(tmp_path: Path) -> None:
    whole = a_history(go_details, tells_workflow_id=False)
    path = tmp_path / "dump.pb"
    path.write_bytes(whole.SerializeToString())
    with pytest.raises(InvalidRequest, match="--workflow-id"):
        read_history(path)
    assert read_history(path, "mine").workflow_id == "mine"
    del whole.events[3]
    path.write_bytes(whole.SerializeToString())
    with pytest.raises(InvalidRequest, match="missing or out of order"):
        read_history(path, "mine")
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(InvalidRequest, match="neither JSON nor a protobuf"):
        read_history(path)
    with pytest.raises(InvalidRequest, match="No such file"):
        read_history(tmp_path / "absent.json")
