"""Errors come back as their class, and calls are tried again only where that is harmless."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.client.conftest import Caller
from tests.client.scripted import (
    RUN,
    Script,
    failed,
    ok,
    started,
    unavailable,
)
from tracker import errors
from tracker.client.retrying import LONGEST_RETRY_AFTER

REFUSED = httpx.ConnectError("connection refused")
BROKEN = httpx.ReadError("connection reset")


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (failed(404, "not_found", "invalid"), errors.NotFound),
        (failed(404, "unknown_workflow_type", "invalid"), errors.UnknownWorkflowType),
        (failed(409, "idempotency_conflict", "invalid"), errors.IdempotencyConflict),
        (failed(401, "not_authenticated", "invalid"), errors.NotAuthenticated),
        (failed(500, "schema_mismatch", "fatal"), errors.SchemaMismatch),
        (failed(418, "of_a_newer_server", "invalid"), errors.InvalidRequest),
        (failed(500, "of_a_newer_server", "fatal"), errors.FatalError),
    ],
)
async def test_errors_come_back_as_their_class(
    caller: Caller, answer: httpx.Response, error_type: type[errors.TrackerError]
) -> None:
    answer.headers["X-Request-Id"] = "r-1"
    with pytest.raises(errors.TrackerError, match="do this") as caught:
        await caller.call(Script(answer), "get_run", RUN)
    assert type(caught.value) is error_type
    details = caught.value.details
    assert (details["field"], details["request_id"]) == ("x", "r-1")
    assert details["http_status"] == answer.status_code


async def test_an_unknown_code_is_kept(caller: Caller) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await caller.call(Script(failed(418, "brand_new", "invalid")), "get_run", RUN)
    assert caught.value.details["code"] == "brand_new"


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (httpx.Response(404, text="<html>"), errors.UnexpectedAnswer),
        (httpx.Response(200, text="<html>"), errors.UnexpectedAnswer),
        (httpx.Response(200, json={"runs": "no"}), errors.UnexpectedAnswer),
        (httpx.Response(301, headers={"Location": "/x"}), errors.UnexpectedAnswer),
    ],
)
async def test_what_is_not_from_the_api_is_named(
    caller: Caller, answer: httpx.Response, error_type: type[errors.TrackerError]
) -> None:
    with pytest.raises(error_type, match="check base_url"):
        await caller.call(Script(answer), "list_runs")


@pytest.mark.parametrize(
    "trouble",
    [REFUSED, BROKEN, httpx.ReadTimeout("slow"), unavailable(), httpx.Response(502)],
    ids=["refused", "reset", "timeout", "503", "proxy"],
)
async def test_reads_are_tried_again(caller: Caller, trouble: httpx.Response | Exception) -> None:
    script = Script(trouble, trouble, ok(runs=[]))
    await caller.call(script, "list_runs")
    assert len(script.requests) == 3
    assert len(caller.time.slept) == 2
    assert all(0 <= pause <= 10 for pause in caller.time.slept)


async def test_tries_are_limited_and_the_last_error_is_raised(caller: Caller) -> None:
    script = Script(*[REFUSED] * 4)
    with pytest.raises(errors.ApiUnavailable, match="cannot be reached"):
        await caller.call(script, "list_runs")
    assert len(script.requests) == 4


async def test_no_error_of_ours_is_tried_again(caller: Caller) -> None:
    script = Script(failed(404, "not_found", "invalid"))
    with pytest.raises(errors.NotFound):
        await caller.call(script, "get_run", RUN)
    assert caller.time.slept == []


@pytest.mark.parametrize("trouble", [BROKEN, unavailable()], ids=["reset", "503"])
async def test_a_start_that_was_sent_is_repeated_only_with_a_key(
    caller: Caller, trouble: httpx.Response | Exception
) -> None:
    script = Script(trouble)
    with pytest.raises(errors.TransientError):
        await caller.call(script, "start_workflow", "Order")
    assert len(script.requests) == 1

    script = Script(trouble, started())
    await caller.call(script, "start_workflow", "Order", idempotency_key="k")
    assert [body["idempotency_key"] for body in script.bodies] == ["k", "k"]


async def test_a_start_that_never_left_is_repeated_without_a_key(caller: Caller) -> None:
    script = Script(REFUSED, started())
    await caller.call(script, "start_workflow", "Order")
    assert script.bodies[1] == {"workflow_type": "Order"}


async def test_a_start_over_the_rate_is_repeated_without_a_key(caller: Caller) -> None:
    limited = failed(429, "rate_limited", "transient", **{"Retry-After": "3"})
    script = Script(limited, started())
    await caller.call(script, "start_workflow", "Order")
    assert len(script.requests) == 2
    assert caller.time.slept[0] >= 3


@pytest.mark.parametrize(
    ("method", "args", "options", "repeatable"),
    [
        ("cancel", (RUN,), {}, False),
        ("signal", (RUN, "paid"), {}, False),
        ("update", (RUN, "approve"), {}, False),
        ("update", (RUN, "approve"), {"update_id": "u"}, True),
        ("query", (RUN, "progress"), {}, True),
    ],
)
async def test_which_controls_are_repeated_after_they_were_sent(
    caller: Caller, method: str, args: tuple[Any, ...], options: dict[str, Any], repeatable: bool
) -> None:
    script = Script(*[BROKEN] * 4)
    with pytest.raises(errors.ApiUnavailable) as caught:
        await caller.call(script, method, *args, **options)
    assert len(script.requests) == (4 if repeatable else 1)
    assert caught.value.details["sent"] is True


async def test_retry_after_is_never_undercut(caller: Caller) -> None:
    by_seconds = unavailable(**{"Retry-After": "7"})
    by_date = unavailable(
        **{
            "Date": "Sat, 31 Jan 2026 12:00:00 GMT",
            "Retry-After": "Sat, 31 Jan 2026 12:00:20 GMT",
        },
    )
    await caller.call(Script(by_seconds, by_date, ok(runs=[])), "list_runs")
    first, second = caller.time.slept
    assert 7 <= first <= 17
    assert 20 <= second <= 30


async def test_a_long_retry_after_is_the_callers_to_wait_out(caller: Caller) -> None:
    after = LONGEST_RETRY_AFTER + 1
    script = Script(unavailable(**{"Retry-After": f"{after:.0f}"}))
    with pytest.raises(errors.DatabaseUnavailable) as caught:
        await caller.call(script, "list_runs")
    assert caught.value.details["retry_after"] == after
    assert caller.time.slept == []


async def test_a_retry_after_inside_the_body_is_no_instruction(caller: Caller) -> None:
    body = {"error": "database_unavailable", "message": "m", "class": "transient"}
    odd = httpx.Response(503, json=body | {"details": {"retry_after": "soon", "message": "x"}})
    await caller.call(Script(odd, ok(runs=[])), "list_runs")
    assert len(caller.time.slept) == 1


def test_every_error_has_a_code_of_its_own() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    codes = [c.code for c in classes if issubclass(c, errors.TrackerError)]
    assert len(set(codes)) == len(codes) > 20


async def test_refinements_elsewhere_do_not_take_an_errors_place(caller: Caller) -> None:
    class Refined(errors.TemporalUnavailable):
        pass

    answer = failed(503, Refined.code, "transient", **{"Retry-After": "99"})
    with pytest.raises(errors.TemporalUnavailable) as caught:
        await caller.call(Script(answer), "get_run", RUN)
    assert type(caught.value) is errors.TemporalUnavailable
