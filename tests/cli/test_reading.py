"""Commands that read a run closely, all of a ref, and what workflows there are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.client.scripted import NEXT, RUN, RUN_BODY, Script, ok

AT = "2026-01-31T00:00:01Z"
SPREAD = {"p50": 0.25, "p95": 2.0}
STEP = {
    "step_id": str(NEXT),
    "kind": "activity",
    "name": "charge",
    "status": "completed",
    "attempts_count": 1,
    "input": {"treatment": "full", "encoding": "json/plain", "size": 3, "sha256": "", "value": [5]},
    "attempts": [
        {
            "attempt_id": str(NEXT),
            "number": 1,
            "outcome": "failed",
            "started_at": AT,
            "error": {"type": "CardDeclined", "message": "no funds"},
        }
    ],
}
WORKFLOW = {
    "workflow_type": "Order",
    "ref_type": "order",
    "ref_id": "o-1",
    "created_at": AT,
    "runs_count": 2,
    "latest_run_id": str(RUN),
    "latest_status": "running",
    "latest_ordered_at": AT,
}
EDGE = {"target": "charge", "transitions": 7, "failure_rate": 0.5, "wait": SPREAD}
TIMELINE = {"at": AT, "event": "attempt.failed", "step_name": "charge", "attempt": 1}


@pytest.mark.parametrize(
    ("command", "answer", "path", "shown"),
    [
        (
            ("runs", "timeline", str(RUN)),
            {"run_id": str(RUN), "entries": [TIMELINE], "truncated": True},
            f"/v1/runs/{RUN}/timeline",
            ["attempt.failed", "charge"],
        ),
        (
            ("runs", "step", str(RUN), str(NEXT)),
            STEP,
            f"/v1/runs/{RUN}/steps/{NEXT}",
            ["charge", "[5]", "CardDeclined", "no funds"],
        ),
        (
            ("runs", "of", "order/o-1"),
            {
                "ref_type": "order",
                "ref_id": "o-1",
                "workflows": [WORKFLOW],
                "runs": [RUN_BODY],
                "next_cursor": "abc",
            },
            "/v1/refs/order/o-1",
            ["Order", "running", str(RUN)],
        ),
        (
            ("workflows", "--type", "Order", "--ref", "order/o-1"),
            {"workflows": [WORKFLOW], "next_cursor": "abc"},
            "/v1/workflows",
            ["order/o-1", "Order"],
        ),
        (
            ("types",),
            {"workflow_types": [{"name": "Order", "aliases": ["o"], "first_seen_at": AT}]},
            "/v1/workflow-types",
            ["Order", "2026-01-31"],
        ),
        (
            ("graph", "Order"),
            {
                "workflow_type": "Order",
                "runs": 7,
                "nodes": [],
                "edges": [EDGE],
            },
            "/v1/workflow-types/Order/graph",
            ["7 runs of Order", "(start)", "charge", "50.0%", "2.000 s"],
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_what_is_read_is_shown(
    cli: CommandLine,
    command: tuple[str, ...],
    answer: dict[str, Any],
    path: str,
    shown: list[str],
) -> None:
    script = Script(ok(**answer), ok(**answer))
    cli.answer_with(script)
    printed = cli.run(*command).stdout
    assert script.requests[0].url.path == path
    assert [text for text in shown if text not in printed] == []
    assert cli.json(*command).keys() >= answer.keys() - {"next_cursor"}


def test_query_and_update_print_what_came(cli: CommandLine) -> None:
    answers = ({"result": {"percent": 5}}, {"done": True, "update_id": "u", "result": 7})
    script = Script(*(ok(run_id=str(RUN), **answer) for answer in answers))
    cli.answer_with(script)
    asked = cli.run("runs", "query", str(RUN), "progress", "--arg", "1").stdout
    assert json.loads(asked) == {"percent": 5}
    command = ("runs", "update", str(RUN), "approve", "--arg", "true", "--update-id", "u")
    assert json.loads(cli.run(*command).stdout)["result"] == 7
    assert script.bodies[0]["args"] == [1]
    assert (script.bodies[1]["args"], script.bodies[1]["update_id"]) == ([True], "u")
