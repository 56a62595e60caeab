"""Delays of `Retry`: exact where a formula is promised, bounded everywhere else."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.retries import LONGEST, SHORTEST, Backoff, Retry, delay, next_delay
from tracker.errors import InvalidRequest

BACKOFFS: tuple[Backoff, ...] = ("exponential", "linear", "fixed")
intervals = st.timedeltas(SHORTEST, LONGEST)
attempts = st.integers(1, 10_000)


@st.composite
def retries(draw: st.DrawFn) -> Retry:
    initial = draw(intervals)
    return Retry(
        max_attempts=draw(st.none() | st.integers(1, 1000)),
        initial=initial,
        backoff=draw(st.sampled_from(BACKOFFS)),
        coefficient=draw(st.floats(1.0, 1000.0)),
        max_interval=draw(st.none() | st.timedeltas(initial, LONGEST)),
        jitter=draw(st.floats(0.0, 1.0)),
        non_retryable=draw(st.lists(st.text(min_size=1), max_size=3)),
    )


@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [("exponential", [1, 2, 4, 8]), ("linear", [1, 2, 3, 4]), ("fixed", [1, 1, 1, 1])],
)
def test_delays_from_one_second(backoff: Backoff, seconds: list[int]) -> None:
    retry = Retry(initial=1, backoff=backoff)
    assert [delay(retry, n).total_seconds() for n in (1, 2, 3, 4)] == seconds


@given(base_ms=st.integers(1, 60_000), k=st.integers(0, 5))
def test_a_policy_that_counts_retries_from_zero_is_expressible(base_ms: int, k: int) -> None:
    """`baseDelay * 2**k`, `baseDelay * (k + 1)` before retry k, which follows attempt k + 1."""
    exponential = Retry(max_attempts=3 + 1, initial=base_ms / 1000)
    linear = Retry(max_attempts=3 + 1, initial=base_ms / 1000, backoff="linear")
    assert delay(exponential, k + 1) == timedelta(milliseconds=base_ms * 2**k)
    assert delay(linear, k + 1) == timedelta(milliseconds=base_ms * (k + 1))


@given(retry=retries(), attempt=attempts)
def test_delays_never_shrink_and_stay_between_initial_and_cap(retry: Retry, attempt: int) -> None:
    assert retry.initial <= delay(retry, attempt) <= delay(retry, attempt + 1) <= retry.cap


@given(retry=retries(), attempt=attempts, drawn=st.floats(0.0, 1.0, exclude_max=True))
def test_jitter_only_shortens(retry: Retry, attempt: int, drawn: float) -> None:
    whole = delay(retry, attempt)
    pause = next_delay(retry, attempt, lambda: drawn)
    rounding = timedelta(microseconds=1)
    assert max(SHORTEST, whole * (1 - retry.jitter) - rounding) <= pause <= whole


def test_without_jitter_nothing_is_drawn() -> None:
    def never() -> float:
        raise AssertionError

    assert next_delay(Retry(initial=3, backoff="linear"), 2, never) == timedelta(seconds=6)


def test_cap_defaults_to_a_hundred_times_the_first_delay() -> None:
    assert delay(Retry(initial=2), 10**6) == timedelta(seconds=200)


@given(retry=retries())
def test_json_round_trip(retry: Retry) -> None:
    assert Retry.from_json(json.loads(json.dumps(retry.to_json()))) == retry


def test_json_leaves_defaults_out_and_ignores_keys_of_later_versions() -> None:
    assert Retry().to_json() == {}
    assert Retry.from_json({"jitter": 0.5, "later": 1}) == Retry(jitter=0.5)


@pytest.mark.parametrize(
    ("backoff", "jitter", "expected"),
    [
        ("exponential", 0.0, False),
        ("fixed", 0.0, False),
        ("linear", 0.0, True),
        ("exponential", 0.1, True),
    ],
)
def test_which_delays_the_server_cannot_keep(
    backoff: Backoff, jitter: float, expected: bool
) -> None:
    assert Retry(backoff=backoff, jitter=jitter).needs_own_delays is expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", True),
        ("max_attempts", 2.5),
        ("initial", 0),
        ("initial", -1),
        ("initial", "5s"),
        ("initial", float("nan")),
        ("initial", timedelta(days=366)),
        ("backoff", "quadratic"),
        ("coefficient", 0.5),
        ("coefficient", float("inf")),
        ("max_interval", 0.5),
        ("jitter", 1.5),
        ("jitter", -0.1),
        ("non_retryable", "ValueError"),
        ("non_retryable", [ValueError]),
        ("non_retryable", 5),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"^expected {field} to be .*, got ") as refused:
        Retry(**{field: value})
    assert refused.value.details == {"field": field}
