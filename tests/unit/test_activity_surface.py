"""`tracker.activity` in every executor that Temporal offers, with and without the plugin."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from tracker.activity import (
    InProcess,
    NonRetryable,
    ProcessResult,
    RetryAfter,
    annotate,
    attempt_scope,
    current_step,
    jitter_source,
    progress,
    retry_delay,
    split_heartbeat,
)
from tracker.core.headers import Header
from tracker.core.ids import Ref
from tracker.core.retries import Retry, next_delay

HEADER = Header(step="send-emails", ref=Ref("campaign", "c-1"), run_id=uuid4())


@pytest.fixture(scope="module")
def process_pool() -> Iterator[ProcessPoolExecutor]:
    # Not forked: this process runs threads.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_progress_is_a_heartbeat_that_keeps_the_users_details_apart() -> None:
    environment, beats = ActivityEnvironment(), list[tuple[Any, ...]]()
    environment.on_heartbeat = lambda *details: beats.append(details)
    environment.run(lambda: progress({"sent": ["a"]}, done=1, total=2, message="half"))
    environment.run(lambda: progress("cursor"))
    assert split_heartbeat(beats[0]) == (
        ({"sent": ["a"]},),
        {"done": 1, "total": 2, "message": "half"},
    )
    assert split_heartbeat(beats[1]) == (("cursor",), None)


@pytest.mark.parametrize("details", [(), ({"progress": 1},), ({},), (None, 3)])
def test_foreign_heartbeats_are_left_as_they_are(details: tuple[Any, ...]) -> None:
    assert split_heartbeat(details) == (details, None)


def test_annotations_merge_and_are_copied() -> None:
    batch = [1]
    with attempt_scope(HEADER) as scope:
        annotate(batch=batch, status=503)
        annotate({"status": 200})
        batch.append(2)
    annotate(after="the end")
    assert scope.annotations() == {"batch": [1], "status": 200}


def test_what_is_not_json_is_annotated_as_text() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with attempt_scope(HEADER) as scope:
        annotate(when=datetime(2026, 1, 2, tzinfo=UTC), ratio=float("nan"), loop=loop)
    assert scope.annotations() == {
        "when": "2026-01-02 00:00:00+00:00",
        "ratio": "nan",
        "loop": "[[...]]",
    }


async def test_scopes_of_concurrent_attempts_are_apart() -> None:
    async def attempt(number: int) -> dict[str, Any]:
        with attempt_scope(HEADER) as scope:
            await asyncio.sleep(0)
            annotate(number=number)
            await asyncio.sleep(0)
            return scope.annotations()

    assert await asyncio.gather(*map(attempt, range(3))) == [{"number": n} for n in range(3)]


def test_a_thread_that_got_the_context_annotates_the_same_attempt() -> None:
    with ThreadPoolExecutor(4) as pool, attempt_scope(HEADER) as scope:
        for number in range(20):
            context = contextvars.copy_context()
            pool.submit(context.run, annotate, {str(number): number})
        pool.shutdown()
    assert scope.annotations() == {str(number): number for number in range(20)}


def annotating(succeed: bool) -> str:
    annotate(batch=7)
    if not succeed:
        raise RetryAfter("busy", 30, {"queue": 3}, type="GatewayBusy")
    return "sent"


def test_annotations_come_back_from_another_process(process_pool: ProcessPoolExecutor) -> None:
    result = process_pool.submit(InProcess(annotating, HEADER), True).result()
    assert result == ProcessResult("sent", {"batch": 7})


def test_so_they_do_with_an_error_that_loses_nothing(process_pool: ProcessPoolExecutor) -> None:
    with pytest.raises(RetryAfter) as raised:
        process_pool.submit(InProcess(annotating, HEADER), False).result()
    error = raised.value
    assert error.__dict__["flowtrail_annotations"] == {"batch": 7}
    assert (error.message, error.type) == ("busy", "GatewayBusy")
    assert list(error.details) == [{"queue": 3}]
    assert error.next_retry_delay == timedelta(seconds=30)


def test_non_retryable_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(NonRetryable("declined", 1, type="CardDeclined")))
    assert isinstance(error, NonRetryable)
    assert (error.message, error.type, list(error.details)) == ("declined", "CardDeclined", [1])
    assert error.non_retryable


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (2.5, timedelta(seconds=2.5)),
        (timedelta(minutes=1), timedelta(minutes=1)),
        ("120", timedelta(seconds=120)),
        (" 120 ", timedelta(seconds=120)),
        (0, timedelta(milliseconds=1)),
        (-5, timedelta(milliseconds=1)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", timedelta(milliseconds=1)),
        ("9" * 400, timedelta(days=1)),
        (None, None),
        ("", None),
        ("soon", None),
        (float("nan"), None),
    ],
)
def test_delays_that_servers_give(delay: Any, expected: timedelta | None) -> None:
    assert RetryAfter("busy", delay).next_retry_delay == expected


def test_an_http_date_is_waited_for() -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    pause = RetryAfter("busy", in_an_hour).next_retry_delay
    assert pause is not None
    assert timedelta(minutes=59) < pause <= timedelta(hours=1)


@given(text=st.text())
def test_no_header_text_breaks_it(text: str) -> None:
    assert isinstance(RetryAfter("busy", text), ApplicationError)


def test_current_step_with_the_plugin() -> None:
    environment = environment_of(
        attempt=2, heartbeat_details=["cursor", {"flowtrail_progress": {}}]
    )
    with attempt_scope(HEADER):
        current = contextvars.copy_context().run(environment.run, current_step)
    assert (current.name, current.ref, current.run_id) == (HEADER.step, HEADER.ref, HEADER.run_id)
    assert (current.attempt, current.max_attempts) == (2, 3)
    assert current.heartbeat_details == ("cursor",)
    assert not current.is_last_attempt


def test_current_step_without_the_plugin_has_the_activity_type() -> None:
    current = environment_of().run(current_step)
    assert (current.name, current.ref, current.run_id) == ("unknown", None, None)


def test_no_limit_of_attempts_is_none() -> None:
    current = environment_of(retry_policy=RetryPolicy()).run(current_step)
    assert current.max_attempts is None
    assert not current.is_last_attempt


def test_next_retry_follows_the_servers_policy() -> None:
    before = datetime.now(UTC)
    current = environment_of(attempt=2).run(current_step)
    assert current.next_retry_at is not None
    # The default policy of `environment_of`: 10 s, then 20 s.
    assert (
        timedelta(0)
        <= current.next_retry_at - before - timedelta(seconds=20)
        < timedelta(seconds=5)
    )


def test_own_delays_are_foretold_as_they_will_be_asked_for() -> None:
    retry = Retry(max_attempts=3, initial=10, backoff="linear", jitter=0.5)
    info = info_of(attempt=2)
    pause = retry_delay(info, retry, info.scheduled_time)
    assert pause == next_delay(retry, 2, jitter_source(info))
    assert pause is not None
    assert timedelta(seconds=10) <= pause <= timedelta(seconds=20)


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 3},
        {"retry_policy": None},
        # 5 s were used, 10 s of backoff would end past 12 s.
        {"schedule_to_close_timeout": timedelta(seconds=12)},
    ],
)
def test_no_attempt_follows(changes: dict[str, Any]) -> None:
    info = info_of(**changes)
    assert retry_delay(info, None, info.scheduled_time + timedelta(seconds=5)) is None


def info_of(**changes: Any) -> activity.Info:
    defaults = {
        "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=10), maximum_attempts=3),
        "schedule_to_close_timeout": None,
        "scheduled_time": datetime.now(UTC),
    }
    return replace(ActivityEnvironment.default_info(), **(defaults | changes))


def environment_of(**changes: Any) -> ActivityEnvironment:
    environment = ActivityEnvironment()
    environment.info = info_of(**changes)
    return environment
