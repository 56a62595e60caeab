"""`eventually` waits for conditions, and tells what it saw last."""

from __future__ import annotations

import asyncio

import pytest

from tests.waiting import eventually


async def test_returns_the_first_truthy_result() -> None:
    results = iter([None, 0, "ready", "later"])
    assert await eventually(lambda: next(results)) == "ready"


async def test_retries_assertions_of_a_coroutine_function() -> None:
    calls = 0

    async def check() -> bool:
        nonlocal calls
        calls += 1
        assert calls == 3, "too early"
        return True

    assert await eventually(check)


async def test_tells_the_last_failure() -> None:
    def check() -> bool:
        raise AssertionError("3 of 4 rows")

    with pytest.raises(AssertionError, match=r"not within 0.1 s: 3 of 4 rows"):
        await eventually(check, timeout=0.1)


async def test_tells_the_last_falsy_result() -> None:
    with pytest.raises(AssertionError, match=r"the result was \[\]"):
        await eventually(list[int], timeout=0.1)


async def test_gives_up_on_a_check_that_hangs() -> None:
    with pytest.raises(AssertionError, match="the first call did not return"):
        await eventually(lambda: asyncio.sleep(60), timeout=0.1)


async def test_raises_other_errors_at_once() -> None:
    def check() -> bool:
        raise LookupError("a mistake in the test")

    with pytest.raises(LookupError):
        await eventually(check)
