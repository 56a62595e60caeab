"""Waiting for a run's output: long polls, run chains, endings without a result, types."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import BaseModel, ConfigDict

from tests.client.conftest import Caller, Handler
from tests.client.scripted import (
    NEXT,
    RUN,
    Script,
    failed,
    result,
    unavailable,
)
from tracker import errors
from tracker.core.status import RunStatus


class Order(BaseModel):
    """Strict, so that only JSON's reading of dates accepts it."""

    model_config = ConfigDict(strict=True)

    order_id: str
    due: datetime


def long_polling(caller: Caller, *answers: httpx.Response) -> tuple[Handler, list[float]]:
    """A server that waits as long as it was asked to, in fake time, before each "not yet"."""
    script, waits = Script(*answers), list[float]()

    def answer(request: httpx.Request) -> httpx.Response:
        waits.append(float(request.url.params["wait"]))
        response = script(request)
        caller.time.now += 0 if response.json().get("done") else waits[-1]
        return response

    return answer, waits


async def test_result_long_polls_until_the_run_has_ended(caller: Caller) -> None:
    handler, waits = long_polling(
        caller,
        result("running"),
        result("running"),
        result("completed", output={"sent": 3}, output_available=True),
    )
    assert await caller.call(handler, "result", RUN) == {"sent": 3}
    assert waits == [20.0, 20.0, 20.0]


async def test_result_gives_up_at_its_timeout(caller: Caller) -> None:
    handler, waits = long_polling(caller, *[result("running")] * 3)
    with pytest.raises(errors.RunNotFinished, match="no result after 30 s"):
        await caller.call(handler, "result", RUN, timeout=timedelta(seconds=30))
    assert waits == [20.0, pytest.approx(9.8)]


async def test_result_with_timeout_zero_asks_once(caller: Caller) -> None:
    handler, waits = long_polling(caller, result("completed", output=None, output_available=True))
    assert await caller.call(handler, "result", RUN, timeout=0) is None
    assert waits == [0.0]


async def test_result_retries_do_not_outlive_its_timeout(caller: Caller) -> None:
    script = Script(unavailable(**{"Retry-After": "30"}))
    with pytest.raises(errors.DatabaseUnavailable):
        await caller.call(script, "result", RUN, timeout=5)
    assert caller.time.slept == []


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        ("failed", errors.RunFailed),
        ("canceled", errors.RunCanceled),
        ("terminated", errors.RunTerminated),
        ("timed_out", errors.RunTimedOut),
        ("rejected", errors.StartRejected),
        ("lost", errors.RunLost),
    ],
)
async def test_an_end_without_result_is_an_error(
    caller: Caller, status: str, error_type: type[errors.TrackerError]
) -> None:
    error = {"type": "CardDeclined", "message": "no funds"}
    with pytest.raises(error_type, match="CardDeclined: no funds") as caught:
        await caller.call(Script(result(status, error=error)), "result", RUN)
    assert type(caught.value) is error_type
    assert caught.value.details == {"run_id": str(RUN), "status": status, "error": error}


async def test_every_closed_status_has_an_ending(caller: Caller) -> None:
    for status in set(RunStatus) - {"accepted", "running", "completed"}:
        with pytest.raises(errors.TrackerError) as caught:
            await caller.call(Script(result(status)), "result", RUN, follow_runs=False)
        assert not isinstance(caught.value, errors.UnexpectedAnswer)


async def test_result_follows_the_run_chain_also_before_the_next_run_is_known(
    caller: Caller,
) -> None:
    script = Script(
        result("continued_as_new"),
        result("continued_as_new", continued_to=str(NEXT)),
        failed(404, "not_found", "invalid"),
        result("completed", run_id=str(NEXT), output=7, output_available=True),
    )
    assert await caller.call(script, "result", RUN, timeout=60) == 7
    asked = [request.url.path.split("/")[3] for request in script.requests]
    assert asked == [str(RUN), str(RUN), str(NEXT), str(NEXT)]


async def test_result_can_stay_with_one_run(caller: Caller) -> None:
    script = Script(result("continued_as_new", continued_to=str(NEXT)))
    with pytest.raises(errors.RunContinued) as caught:
        await caller.call(script, "result", RUN, follow_runs=False)
    assert caught.value.details["continued_to"] == str(NEXT)


async def test_result_of_a_run_that_is_not_there(caller: Caller) -> None:
    with pytest.raises(errors.NotFound):
        await caller.call(Script(failed(404, "not_found", "invalid")), "result", RUN)


async def test_an_output_that_was_not_kept_is_not_none(caller: Caller) -> None:
    with pytest.raises(errors.OutputNotKept):
        await caller.call(Script(result("completed")), "result", RUN)


async def test_result_is_validated_to_a_type(caller: Caller) -> None:
    output = {"order_id": "o-1", "due": "2026-01-31T00:00:00Z"}
    answers = [result("completed", output=output, output_available=True) for _ in range(2)]
    order = await caller.call(Script(answers[0]), "result", RUN, as_type=Order)
    assert order == Order(order_id="o-1", due=datetime(2026, 1, 31, tzinfo=UTC))
    with pytest.raises(errors.UnexpectedAnswer, match="not a"):
        await caller.call(Script(answers[1]), "result", RUN, as_type=list[int])
