"""Waiting for a condition instead of sleeping for a guess."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")

POLL_SECONDS = 0.02


async def eventually(
    check: Callable[[], T | Awaitable[T]],
    timeout: float = 10.0,  # noqa: ASYNC109 - it belongs to the condition, not to the caller
) -> T:
    """Call `check` until it returns something truthy, and return that.

    Args:
        check: A function or coroutine function. An AssertionError or a falsy result means "not
            yet"; any other exception is raised at once.
        timeout: Seconds for all calls together.

    Raises:
        AssertionError: Time is up; it tells the last failure.
    """
    deadline = time.monotonic() + timeout
    last: object = "the first call did not return"
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    result = await _outcome(check)
                    if result:
                        return result
                    last = f"the result was {result!r}"
                except AssertionError as failure:
                    last = failure
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        if time.monotonic() < deadline:
            raise
        cause = last if isinstance(last, AssertionError) else None
        raise AssertionError(f"not within {timeout} s: {last}") from cause or error


async def _outcome(check: Callable[[], T | Awaitable[T]]) -> T:
    result = check()
    return await result if inspect.isawaitable(result) else cast("T", result)
