"""Where a run's ref and metadata come from: memo, `tracked_ref`, rules, the workflow itself."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.temporal.tracking.harness import RecordedRun, Tracked
from tests.temporal.tracking.ref_workflows import ACTIVITIES, WORKFLOWS
from tracker.core.ref_rules import RefRule
from tracker.errors import InvalidRequest
from tracker.temporal.refs import tracked_ref

RULE = RefRule(ref_type="order", workflow_id=r"order-(?P<ref_id>.+)", workflow_type="Describing")


async def test_started_by_another_client_without_a_ref(tracked: Tracked) -> None:
    run = await described(tracked, [])
    assert (run.ref_type, run.ref_id) == (None, None)
    assert run.step("whoami").output == [None, str(run.run_id)]
    [workflow] = await tracked.rows("v_workflows")
    assert (workflow["ref_type"], workflow["runs_count"]) == (None, 1)
    assert await refs(tracked) == {}


async def test_a_client_without_the_plugin_ignores_tracked_ref(tracked: Tracked) -> None:
    with tracked_ref("order", "o-1"):
        run = await described(tracked, [])
    assert run.ref_type is None


async def test_tracked_ref_at_any_client_start(tracked: Tracked) -> None:
    client = tracked.client()
    with tracked_ref("order", "o-1/2"), tracked_ref("order", "o-2", metadata={"dept": "x"}):
        run = await described(tracked, [["payment", "p-1"], ["order", "o-2"]], client=client)
    assert (run.ref_type, run.ref_id) == ("order", "o-2")
    assert run.step("whoami").output == ["order/o-2", str(run.run_id)]
    assert await refs(tracked) == {run.run_id: {("order", "o-2"), ("payment", "p-1")}}
    assert run.metadata["dept"] == "x"
    with pytest.raises(InvalidRequest), tracked_ref("or/der", "o-1"):
        pass


async def test_the_user_keeps_a_memo_of_his_own(tracked: Tracked) -> None:
    client = tracked.client()
    with tracked_ref("order", "o-1"):
        run = await described(tracked, [], client=client, memo={"mine": [1, 2]})
    handle = client.get_workflow_handle(run.workflow_id)
    assert await (await handle.describe()).memo_value("mine") == [1, 2]
    assert run.ref_id == "o-1"


async def test_the_first_link_of_a_run_without_a_ref_is_its_ref(tracked: Tracked) -> None:
    run = await described(tracked, [["payment", "p-1"], ["payment", "p-2"]])
    assert (run.ref_type, run.ref_id) == ("payment", "p-1")
    assert await refs(tracked) == {run.run_id: {("payment", "p-1"), ("payment", "p-2")}}


async def test_a_rule_outranks_a_link_and_the_memo_outranks_a_rule(tracked: Tracked) -> None:
    client = tracked.client(ref_rules=[RULE])
    own = f"order-{uuid.uuid4().hex[:8]}"
    by_rule = await described(tracked, [["payment", "p-1"]], client=client, id=own)
    assert (by_rule.ref_type, by_rule.ref_id) == ("order", own.removeprefix("order-"))
    with tracked_ref("invoice", "i-1"):
        by_memo = await described(tracked, [], client=client, id=f"{own}-2")
    assert (by_memo.ref_type, by_memo.ref_id) == ("invoice", "i-1")


async def test_metadata_and_its_labels(tracked: Tracked) -> None:
    run = await described(tracked, [])
    assert run.metadata == {
        "color": "blue",
        "size": 4,
        "lines": ["a"],
        "note": "x" * 300,
        "deep": {"a": 1},
        "gone": None,
    }
    labels = {row["key"]: row["value"] for row in await tracked.rows("run_label")}
    assert labels == {"color": "blue", "size": "4"}


@pytest.mark.parametrize(
    ("include", "exclude", "recorded"),
    [
        (["Par*"], [], {"Parent"}),
        (["*"], ["Ch?ld"], {"Parent"}),
        (["Par*", "Child"], ["*"], set()),
        (["Child"], [], {"Child"}),
    ],
)
async def test_only_selected_types_are_recorded(
    tracked: Tracked, include: list[str], exclude: list[str], recorded: set[str]
) -> None:
    client = tracked.client(include=include, exclude=exclude)
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
        handle = await tracked.start("Parent", "ok")
        assert await handle.result() == "ok"
    assert {run.workflow_type for run in await tracked.runs()} == recorded
    seen = {row["name"] for row in await tracked.rows("workflow_type")}
    assert seen & {"Parent", "Child"} == recorded


async def described(tracked: Tracked, links: list[list[str]], **options: Any) -> RecordedRun:
    """A run of `Describing` that ended, served by the client that started it."""
    client = options.get("client") or tracked.client()
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
        handle = await tracked.start("Describing", links, **options)
        await handle.result()
    live = await tracked.run(handle)
    if not options.get("client"):
        assert vars(await tracked.corrected(handle))["metadata"] == live.metadata
    return live


async def refs(tracked: Tracked) -> dict[uuid.UUID, set[tuple[str, str]]]:
    """All refs of each run."""
    found: dict[uuid.UUID, set[tuple[str, str]]] = {}
    for row in await tracked.rows("run_ref"):
        found.setdefault(row["run_id"], set()).add((row["ref_type"], row["ref_id"]))
    return found
