"""When a call is tried again, and after how long; the same rules for both clients.

A request that never left, or that was refused for its rate, is tried again whatever it is. One that
may have been carried out is tried again only if it is repeatable. The server's `Retry-After` is
honoured, never undercut.
"""

from __future__ import annotations

import logging
from typing import Any

from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from tracker.client.calls import Call
from tracker.errors import ApiUnavailable, RateLimited, RunNotFinished, TransientError

LONGEST_RETRY_AFTER = 60.0
"""Seconds of `Retry-After` beyond which the error is raised at once instead of waited out."""

_BACKOFF = wait_random_exponential(multiplier=0.25, max=10)
_log = logging.getLogger(__name__)


def retrying_options(call: Call[Any], retries: int) -> dict[str, Any]:
    """Keyword arguments for tenacity's `Retrying` and `AsyncRetrying`."""
    stop = stop_after_attempt(retries + 1)
    if call.budget is not None:
        stop |= stop_before_delay(call.budget)
    return {
        "retry": retry_if_exception(lambda error: _is_tried_again(call, error)),
        "wait": _wait,
        "stop": stop,
        "before_sleep": _report,
        "reraise": True,
    }


def _is_tried_again(call: Call[Any], error: BaseException) -> bool:
    if not isinstance(error, TransientError) or isinstance(error, RunNotFinished):
        return False
    if _asked(error) > LONGEST_RETRY_AFTER:
        return False
    never_left = isinstance(error, ApiUnavailable) and error.details.get("sent") is False
    return never_left or isinstance(error, RateLimited) or call.repeatable


def _wait(state: RetryCallState) -> float:
    error = state.outcome and state.outcome.exception()
    return _asked(error) + _BACKOFF(state)


def _asked(error: BaseException | None) -> float:
    """Seconds of the answer's `Retry-After`."""
    asked = error.details.get("retry_after") if isinstance(error, TransientError) else None
    return asked if isinstance(asked, float) else 0.0


def _report(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    _log.info(
        "call failed, next try in %.1f s: %s",
        state.upcoming_sleep,
        error,
        extra={"event": "client.retry", "attempt": state.attempt_number},
    )
