"""Commands as people and scripts use them: output, exit codes, one line of complaint."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import CommandLine
from tests.client.scripted import NEXT, RUN, RUN_BODY, Script, failed, ok, result, started
from tracker import __version__
from tracker.cli import beside
from tracker.cli.app import build_app
from tracker.core.status import RunStatus
from tracker.errors import ConfigurationError

NOWHERE = "http://127.0.0.1:9"
"""Port 9 (discard) is served by nobody."""


# The program


def test_version(cli: CommandLine) -> None:
    assert cli.run("--version").stdout == f"flowtrail {__version__}\n"


def test_help_tells_the_exit_codes(cli: CommandLine) -> None:
    assert "3 API, database" in cli.run("--help").stdout


def test_the_applications_commands_say_where_they_are_to_be_had(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "application_root", lambda: None)
    for name in beside.COMMANDS:
        complaint = cli.run(name, "--port", "1", code=2).stderr
        assert f"image flowtrail:{__version__}" in complaint


def test_a_checkout_brings_the_applications_commands(cli: CommandLine) -> None:
    assert "--port" in cli.run("api", "--help").stdout
    assert "--once" in cli.run("dev", "--help").stdout
    assert "worker" in cli.run("worker", "--help").stdout


def test_another_package_in_the_applications_place_is_told(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "application_root", lambda: cli.folder)
    with pytest.raises(ConfigurationError, match="another package"):
        build_app()


def test_a_malformed_setting_is_named(cli: CommandLine) -> None:
    cli.set(schema="Not An Identifier", database_url="postgresql://localhost/x")
    assert "'Not An Identifier'" in cli.run("migrate", code=2).stderr


# Through the API


def test_start_sends_json_and_prints_the_id(cli: CommandLine) -> None:
    script = Script(started())
    cli.answer_with(script)
    (cli.folder / "input.json").write_text('{"sku": "s-1"}')
    cli.set(api_key="ft_x")
    output = cli.run(
        *("runs", "start", "Order", "--input", "@input.json", "--ref", "order/o-1"),
        *("--metadata", "tier=gold", "--idempotency-key", "k", "--run-timeout", "2.5"),
    ).stdout
    assert output == f"{RUN}\n"
    assert script.requests[0].headers["X-API-Key"] == "ft_x"
    assert script.bodies == [
        {
            "workflow_type": "Order",
            "input": {"sku": "s-1"},
            "ref_type": "order",
            "ref_id": "o-1",
            "metadata": {"tier": "gold"},
            "idempotency_key": "k",
            "run_timeout": 2.5,
        }
    ]


def test_start_takes_no_input_or_several_arguments(cli: CommandLine) -> None:
    script = Script(started(), started(), started())
    cli.answer_with(script)
    cli.run("runs", "start", "Order")
    cli.run("runs", "start", "Order", "--arg", "1", "--arg", '"two"')
    cli.run("runs", "start", "Order", "--input", "null")
    sent = [{k: v for k, v in body.items() if k != "workflow_type"} for body in script.bodies]
    assert sent == [{}, {"args": [1, "two"]}, {"input": None}]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["runs", "start", "Order", "--input", "{broken"], "--input is not JSON"),
        (["runs", "start", "Order", "--input", "@missing.json"], "missing.json"),
        (["runs", "start", "Order", "--ref", "no-slash"], "ref_type/ref_id"),
        (["runs", "list", "--metadata", "novalue"], "KEY=VALUE"),
        (["runs", "list", "--status", "nonsense"], "status"),
        (["runs", "show", "not-a-uuid"], "UUID"),
        (["runs", "signal", str(RUN), "paid", "--arg", "text"], "text needs quotes"),
        (["runs", "frobnicate"], "No such command"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_sent(
    cli: CommandLine, arguments: list[str], complaint: str
) -> None:
    script = Script()
    cli.answer_with(script)
    assert complaint in cli.run(*arguments, code=2).stderr
    assert script.requests == []


def test_every_filter_of_runs_has_an_option(cli: CommandLine) -> None:
    group = str(NEXT)
    given = {
        "build_id": ("--build", "b7"),
        "parent": ("--parent", str(RUN)),
        "failure": ("--failure", group),
        "failed_step": ("--failed-step", "charge"),
        "waiting_on": ("--waiting-on", "timer"),
    }
    words = [word for pair in given.values() for word in pair]
    flags = {"roots_only": "--roots", "retrying": "--retrying"}
    durations = {"min_duration": ("--min-seconds", "1.5"), "max_duration": ("--max-seconds", "60")}

    script = Script(ok(runs=[], next_cursor=None), ok(count=0, exceeds_max_runs=False, runs=[]))
    cli.answer_with(script)
    cli.run("runs", "list", *words, *flags.values(), *durations["min_duration"])
    asked = dict(script.requests[0].url.params.multi_items())
    values = {name: value for name, (_, value) in given.items()}
    assert values.items() <= asked.items()
    assert {asked[name].lower() for name in flags} == {"true"}
    assert float(asked["min_duration"]) == 1.5

    cli.run("bulk", "start", "rerun", *words, *flags.values())
    asked = json.loads(script.requests[1].content)["filter"]
    assert asked == values | {"roots_only": True, "retrying": True}


def test_list_filters_and_pages(cli: CommandLine) -> None:
    script = Script(ok(runs=[RUN_BODY], next_cursor="abc"))
    cli.answer_with(script)
    shown = cli.run(
        *("runs", "list", "--type", "Order", "--status", "failed", "--status", "canceled"),
        *("--metadata", "tier=gold", "--started-after", "2026-01-31", "--limit", "1"),
    )
    assert re.search(rf"{RUN} +Order +running +2026-01-31 00:00:00Z", shown.stdout)
    assert "--cursor abc" in shown.stderr
    params = script.requests[0].url.params
    assert params.get_list("status") == ["failed", "canceled"]
    assert params["metadata.tier"] == "gold"
    assert datetime.fromisoformat(params["started_after"]).isoformat() == (
        "2026-01-31T00:00:00+00:00"
    )


def test_an_empty_list_says_so(cli: CommandLine) -> None:
    cli.answer_with(Script(ok(runs=[])))
    assert cli.run("runs", "list").stdout == "No runs match.\n"


def test_json_is_what_the_api_answers(cli: CommandLine) -> None:
    cli.answer_with(Script(ok(runs=[RUN_BODY], next_cursor="abc"), ok(**RUN_BODY)))
    page = cli.json("runs", "list")
    assert (page["next_cursor"], page["runs"][0]["run_id"]) == ("abc", str(RUN))
    assert cli.json("runs", "show", str(RUN))["status"] == "running"


def test_show_prints_steps_and_their_attempts(cli: CommandLine) -> None:
    error = {"type": "SMTPError", "message": "451 \x1b[31mgreylisted\n[bold]later"}
    attempt = {
        "attempt_id": str(NEXT),
        "number": 1,
        "outcome": "failed",
        "started_at": "2026-01-31T00:00:01Z",
        "finished_at": "2026-01-31T00:00:01.250Z",
        "error": error,
    }
    step = {
        "step_id": str(NEXT),
        "kind": "activity",
        "name": "send-emails",
        "status": "completed",
        "attempts_count": 2,
        "max_attempts": 5,
        "started_at": "2026-01-31T00:00:01Z",
        "finished_at": "2026-01-31T00:00:03Z",
        "attempts": [attempt, attempt | {"number": 2, "outcome": "completed", "error": None}],
    }
    cli.answer_with(Script(ok(**RUN_BODY, steps=[step])))
    shown = cli.run("runs", "show", str(RUN)).stdout
    assert re.search(r"send-emails +completed +2026-01-31 00:00:01Z +2\.0 s +2/5", shown)
    assert re.search(r"└ +failed .* 250 ms +1 +SMTPError: 451", shown)
    assert "\x1b" not in shown
    assert "[bold]later" in shown


def test_show_tells_why_a_start_is_dead(cli: CommandLine) -> None:
    dead = "2026-01-31T00:00:01Z"
    entry = {"id": str(RUN), "kind": "start", "created_at": dead, "dead_at": dead}
    entry |= {"tries": 5, "last_error": "KeyError: 'x'"}
    cli.answer_with(Script(ok(**RUN_BODY, outbox=[entry])))
    shown = cli.run("runs", "show", str(RUN)).stdout
    assert f"start {RUN} is dead after 5 tries: KeyError: 'x'" in shown


def test_result_prints_the_output_or_fails(cli: CommandLine) -> None:
    error = {"type": "CardDeclined", "message": "no funds"}
    cli.answer_with(
        Script(
            result("completed", output={"sent": 3}, output_available=True),
            result("failed", error=error),
            result("running"),
        )
    )
    assert cli.run("runs", "result", str(RUN)).stdout == '{\n  "sent": 3\n}\n'
    assert "CardDeclined: no funds" in cli.run("runs", "result", str(RUN), code=1).stderr
    assert (
        "no result after 0 s"
        in cli.run("runs", "result", str(RUN), "--timeout", "0", code=1).stderr
    )


@pytest.mark.parametrize("action", ["cancel", "terminate"])
def test_control(cli: CommandLine, action: str) -> None:
    script = Script(ok(run_id=str(RUN), action=action, canceled_before_start=True))
    cli.answer_with(script)
    said = cli.run("runs", action, str(RUN), "--reason", "because").stdout
    assert said == f"{action}: {RUN} before it started\n"
    assert script.bodies == [{"reason": "because"}]


def test_signal(cli: CommandLine) -> None:
    script = Script(ok(run_id=str(RUN), action="signal"))
    cli.answer_with(script)
    cli.run("runs", "signal", str(RUN), "paid", "--arg", '{"by": "card"}')
    assert script.bodies == [{"name": "paid", "args": [{"by": "card"}]}]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (failed(404, "not_found", "invalid"), 1),
        (failed(401, "not_authenticated", "invalid"), 1),
        (failed(422, "invalid_request", "invalid"), 1),
        (failed(503, "temporal_unavailable", "transient", **{"Retry-After": "99"}), 3),
    ],
)
def test_the_apis_complaint_is_one_line(
    cli: CommandLine, answer: httpx.Response, code: int
) -> None:
    cli.answer_with(Script(answer))
    shown = cli.run("runs", "show", str(RUN), code=code)
    assert shown.stderr == "flowtrail: do this\n"
    assert shown.stdout == ""


def test_an_api_that_is_away_is_exit_code_3(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    cli.set(api_url=NOWHERE)
    complaint = cli.run("runs", "list", code=3).stderr
    assert complaint.startswith(f"flowtrail: the API at {NOWHERE} cannot be reached")
    assert complaint.count("\n") == 1


def test_a_database_that_is_away_is_exit_code_3(cli: CommandLine) -> None:
    cli.set(database_url="postgresql://postgres@127.0.0.1:9/x?connect_timeout=2")
    assert "Postgres cannot be reached" in cli.run("migrate", code=3).stderr


def test_every_status_can_be_asked_for(cli: CommandLine) -> None:
    cli.answer_with(Script(*[ok(runs=[])] * len(RunStatus)))
    for status in RunStatus:
        cli.run("runs", "list", "--status", status)


def test_rerun_prints_the_new_run(cli: CommandLine) -> None:
    script = Script(started())
    cli.answer_with(script)
    said = cli.run("runs", "rerun", str(NEXT), "--input", '{"a": 1}', "--idempotency-key", "k")
    assert said.stdout.strip() == str(RUN)
    assert script.requests[0].url.path == f"/v1/runs/{NEXT}/rerun"
    assert script.bodies == [{"input": {"a": 1}, "idempotency_key": "k"}]


def test_reset_tells_what_runs_again(cli: CommandLine) -> None:
    answer = ok(run_id=str(RUN), new_run_id=str(NEXT), event_id=15, repeats=["refund"])
    script = Script(answer, answer)
    cli.answer_with(script)
    said = cli.run("runs", "reset", str(RUN), "--reason", "again")
    assert said.stdout == f"{NEXT}\n"
    assert "from event 15" in said.stderr
    assert "runs again: refund" in said.stderr
    cli.run("runs", "reset", str(RUN), "--step", str(NEXT), "--dry-run")
    assert script.bodies == [
        {"reason": "again"},
        {"to": "step", "step_id": str(NEXT), "dry_run": True},
    ]
    assert (
        "not both"
        in cli.run("runs", "reset", str(RUN), "--step", str(NEXT), "--event", "3", code=2).stderr
    )


def test_pausing_a_step(cli: CommandLine) -> None:
    script = Script(*(ok(run_id=str(RUN), action="done") for _ in range(3)))
    cli.answer_with(script)
    cli.run("runs", "pause-step", str(RUN), str(NEXT))
    cli.run("runs", "unpause-step", str(RUN), str(NEXT), "--reset-attempts")
    cli.run("runs", "retry-step", str(RUN), str(NEXT), "--reason", "fixed")
    paths = [request.url.path.rpartition("/")[2] for request in script.requests]
    assert paths == ["pause", "unpause", "retry"]
    assert script.bodies == [{}, {"reset_attempts": True}, {"reason": "fixed"}]


def test_metadata_is_json_where_it_can_be(cli: CommandLine) -> None:
    script = Script(httpx.Response(200, json=RUN_BODY | {"metadata": {"n": 1}}))
    cli.answer_with(script)
    said = cli.run("runs", "set-metadata", str(RUN), "n=1", "owner=ann", "--remove", "old")
    assert script.bodies == [{"metadata": {"n": 1, "owner": "ann", "old": None}}]
    assert '"n": 1' in said.stdout


def bulk_body(**fields: Any) -> dict[str, Any]:
    return {
        "bulk_id": str(NEXT),
        "action": "rerun",
        "filter": {"status": ["failed"]},
        "status": "acting",
        "actor": "ops",
        "rate": 20,
        "created_at": "2026-01-31T00:00:00Z",
        "updated_at": "2026-01-31T00:00:00Z",
    } | fields


def test_a_bulk_action_is_only_counted_without_yes(cli: CommandLine) -> None:
    script = Script(ok(count=3, exceeds_max_runs=True, runs=[RUN_BODY]))
    cli.answer_with(script)
    said = cli.run("bulk", "start", "rerun", "--status", "failed", "--max-runs", "2")
    assert "would take more than 2 run(s); nothing was done" in said.stderr
    assert script.bodies == [
        {"action": "rerun", "filter": {"status": ["failed"]}, "max_runs": 2, "dry_run": True}
    ]


def test_a_bulk_action_is_waited_for(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.cli.bulk.POLL_SECONDS", 0)
    ended = bulk_body(status="completed", total=2, done=1, failed=1)
    script = Script(httpx.Response(202, json=bulk_body()), ok(**bulk_body()), ok(**ended))
    cli.answer_with(script)
    arguments = ("bulk", "start", "rerun", "--status", "failed", "--yes", "--wait")
    said = cli.run(*arguments, code=1)
    assert "completed" in said.stdout
    assert [request.method for request in script.requests] == ["POST", "GET", "GET"]


def test_items_of_a_bulk_action(cli: CommandLine) -> None:
    item = {"run_id": str(RUN), "status": "failed", "tries": 1, "error_code": "conflict"}
    page = {"items": [item], "next_cursor": "c"}
    script = Script(ok(**page), ok(items=[item]))
    cli.answer_with(script)
    found = cli.json("bulk", "items", str(NEXT), "--status", "failed")
    assert [one["error_code"] for one in found] == ["conflict", "conflict"]
    assert dict(script.requests[1].url.params) == {"status": "failed", "cursor": "c"}


def test_what_is_failing(cli: CommandLine) -> None:
    step = {
        "step_id": str(NEXT),
        "run_id": str(RUN),
        "temporal_run_id": str(NEXT),
        "kind": "activity",
        "name": "charge",
        "status": "scheduled",
        "attempts": 7,
        "error_type": "Busy",
        "first_failed_at": "2026-01-31T00:00:00Z",
        "failed_at": "2026-01-31T00:00:00Z",
        "failure": str(NEXT),
    }
    script = Script(ok(steps=[step], next_cursor="c"), ok(steps=[]))
    cli.answer_with(script)
    said = cli.run("failing", "--type", "Order", "--limit", "1")
    assert "charge" in said.stdout
    assert "there are more" in said.stderr
    params = script.requests[0].url.params
    assert params.get_list("status") == ["scheduled", "started"]
    assert "nothing is failing" in cli.run("failing").stdout


def test_failures_and_times(cli: CommandLine) -> None:
    group = {
        "failure": str(NEXT),
        "error_type": "Busy",
        "message": "no answer",
        "name": "charge",
        "kind": "activity",
        "workflow_types": ["Order"],
        "steps": 12,
        "runs": 12,
        "failed": 3,
        "retrying": 9,
        "recovered": 0,
        "first_failed_at": "2026-01-31T00:00:00Z",
        "failed_at": "2026-01-31T00:00:00Z",
        "build_ids": [],
    }
    since = "2026-01-31T00:00:00Z"
    spread = {"p50": 1.0, "p95": 2.5}
    of_type = {
        "workflow_type": "Order",
        "runs": 4,
        "failed": 1,
        "failure_rate": 0.25,
        "duration": spread,
    }
    step = {
        "workflow_type": "Order",
        "name": "charge",
        "kind": "activity",
        "steps": 4,
        "failed": 0,
        "failure_rate": 0.0,
        "attempts": 1.5,
        "duration": spread,
        "queue": spread,
        "execution": spread,
        "backoff": {},
    }
    sampled = {"sampled": 2000, "since": since, "truncated": True}
    script = Script(
        ok(groups=[group], **sampled), ok(workflow_types=[of_type], steps=[step], **sampled)
    )
    cli.answer_with(script)
    said = cli.run("failures", "--hours", "2")
    assert "no answer" in said.stdout
    assert "latest 2000 failed steps" in said.stderr
    said = cli.run("times")
    assert "25.0%" in said.stdout
    assert "2.500 s" in said.stdout
    assert "latest 2000 runs" in said.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["flowtrail", "ru"], ["runs"]),
        (["flowtrail", "runs", "re"], ["rerun", "reset", "result", "retry-step"]),
        (["flowtrail", "keys", "create", "--ra"], ["--rate"]),
    ],
)
def test_bash_completes(typed: list[str], offered: list[str]) -> None:
    program = Path(sys.executable).parent / "flowtrail"
    script = subprocess.run(
        [program, "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = " ".join(typed)
    source = f"{script}\nCOMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}\n"
    called = f"{source}_flowtrail_completion {program}; echo ${{COMPREPLY[@]}}"
    told = subprocess.run(["bash", "-c", called], capture_output=True, text=True, check=True)
    assert sorted(told.stdout.split()) == offered
