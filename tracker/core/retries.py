"""How a step is tried again: one validated value and the arithmetic of its delays.

Attempts count from 1, as Temporal counts them: `delay(retry, n)` is the wait between the failure
of attempt n and attempt n + 1. A policy of "n retries" is `max_attempts=n + 1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast, get_args

from tracker.errors import InvalidRequest

Backoff = Literal["exponential", "linear", "fixed"]

SHORTEST = timedelta(milliseconds=1)
"""Temporal's timers count milliseconds, and the SDK does not send a zero delay at all: the server
would then fall back to its own policy."""

LONGEST = timedelta(days=365)
"""A longer wait is a typing error, not a retry policy."""

UNCAPPED_FACTOR = 100
"""Temporal's default maximum interval is 100 times the initial one; ours is the same."""


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How often, and after which delays, a step is tried again.

    The delay after attempt n is `initial * coefficient ** (n - 1)` (exponential), `initial * n`
    (linear) or `initial` (fixed), never above `max_interval`. Jitter only shortens it, so that the
    cap holds: it takes off a random part of up to `jitter` of the delay (1.0 is "full jitter").

    Exponential and fixed delays without jitter are kept by the Temporal server itself. Linear ones
    and jitter need the plugin on the activity's worker; without it, and after a timeout or a crash
    of the worker, the server waits as for exponential or fixed without jitter.

    A helper with `maxRetries`, `baseDelay` (ms) and a backoff type that waits `baseDelay * 2**k`
    or `baseDelay * (k + 1)` before retry k, from 0, is
    `Retry(max_attempts=maxRetries + 1, initial=baseDelay / 1000, backoff=…)`.

    Attributes:
        max_attempts: Tries in all, the first included. None: no limit.
        initial: Delay after the first failure; seconds or timedelta, 1 ms to 365 days.
        backoff: How delays grow.
        coefficient: Growth of exponential delays, at least 1.
        max_interval: Cap of every delay; seconds or timedelta. None: 100 times `initial`.
        jitter: 0.0 to 1.0.
        non_retryable: Names of error types after which no further try is made. For Python
            exceptions that is the class name; for `ApplicationError` its `type`.

    Raises:
        InvalidRequest: If a value is out of range.
    """

    max_attempts: int | None
    initial: timedelta
    backoff: Backoff
    coefficient: float
    max_interval: timedelta | None
    jitter: float
    non_retryable: tuple[str, ...]

    def __init__(
        self,
        max_attempts: int | None = None,
        initial: timedelta | float = timedelta(seconds=1),
        backoff: Backoff = "exponential",
        coefficient: float = 2.0,
        max_interval: timedelta | float | None = None,
        jitter: float = 0.0,
        non_retryable: Iterable[str] = (),
    ) -> None:
        first = _interval("initial", initial)
        cap = None if max_interval is None else _interval("max_interval", max_interval)
        if cap is not None and cap < first:
            raise _invalid("max_interval", f"at least initial ({first})", max_interval)
        if backoff not in get_args(Backoff):
            raise _invalid("backoff", "exponential, linear or fixed", backoff)
        values: dict[str, Any] = {
            "max_attempts": _attempts(max_attempts),
            "initial": first,
            "backoff": backoff,
            "coefficient": _number("coefficient", coefficient, 1.0, 1000.0),
            "max_interval": cap,
            "jitter": _number("jitter", jitter, 0.0, 1.0),
            "non_retryable": _type_names(non_retryable),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def cap(self) -> timedelta:
        """The longest delay."""
        return self.max_interval or self.initial * UNCAPPED_FACTOR

    @property
    def needs_own_delays(self) -> bool:
        """Whether the server's own policy cannot express the delays, so that the activity's worker
        has to tell it each one."""
        return self.backoff == "linear" or self.jitter > 0

    def to_json(self) -> dict[str, Any]:
        """JSON object for the activity's header: intervals in seconds, defaults left out."""
        values: dict[str, Any] = {
            "max_attempts": self.max_attempts,
            "initial": self.initial.total_seconds(),
            "backoff": self.backoff,
            "coefficient": self.coefficient,
            "max_interval": self.max_interval and self.max_interval.total_seconds(),
            "jitter": self.jitter,
            "non_retryable": list(self.non_retryable),
        }
        return {name: value for name, value in values.items() if value != _DEFAULTS[name]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Retry:
        """Read what `to_json` wrote; keys of later versions are ignored.

        Raises:
            InvalidRequest: If a value is out of range.
        """
        return cls(**{name: value[name] for name in _DEFAULTS if name in value})


def delay(retry: Retry, attempt: int) -> timedelta:
    """The wait after attempt `attempt` (from 1) failed, before jitter."""
    if retry.backoff == "fixed":
        return retry.initial
    if retry.backoff == "linear":
        return min(retry.initial * attempt, retry.cap)
    return exponential(retry.initial, retry.coefficient, retry.cap, attempt)


def next_delay(retry: Retry, attempt: int, random: Callable[[], float]) -> timedelta:
    """The wait after attempt `attempt` (from 1) failed, jitter included.

    Args:
        random: Gives floats in [0, 1); called once if there is jitter, else not at all.

    Returns:
        At least 1 ms, at most `retry.cap`.
    """
    whole = delay(retry, attempt)
    if not retry.jitter:
        return whole
    return max(SHORTEST, whole * (1.0 - retry.jitter * random()))


def exponential(initial: timedelta, coefficient: float, cap: timedelta, attempt: int) -> timedelta:
    """`initial * coefficient ** (attempt - 1)`, at most `cap`: the server's own arithmetic."""
    try:
        seconds = initial.total_seconds() * coefficient ** (attempt - 1)
    except OverflowError:
        return cap
    return cap if seconds >= cap.total_seconds() else timedelta(seconds=seconds)


_DEFAULTS: dict[str, Any] = {
    "max_attempts": None,
    "initial": 1.0,
    "backoff": "exponential",
    "coefficient": 2.0,
    "max_interval": None,
    "jitter": 0.0,
    "non_retryable": [],
}


def _attempts(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31:
        return value
    raise _invalid("max_attempts", "a whole number from 1, or None for no limit", value)


def _interval(name: str, value: object) -> timedelta:
    expected = "seconds or a timedelta between 1 ms and 365 days"
    if not isinstance(value, timedelta):
        seconds = _number(name, value, 0.0, LONGEST.total_seconds(), expected)
        value = timedelta(seconds=seconds)
    if SHORTEST <= value <= LONGEST:
        return value
    raise _invalid(name, expected, value)


def _number(name: str, value: object, low: float, high: float, expected: str = "") -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    raise _invalid(name, expected or f"a number from {low:g} to {high:g}", value)


def _type_names(value: object) -> tuple[str, ...]:
    # A lone string is iterable too, and would become one "type" per letter.
    if isinstance(value, Iterable) and not isinstance(value, str):
        names = tuple(cast("Iterable[object]", value))
        if all(isinstance(name, str) and name for name in names):
            return cast("tuple[str, ...]", names)
    raise _invalid(
        "non_retryable", "error type names, e.g. ('CardDeclined',)", cast("object", value)
    )


def _invalid(name: str, expected: str, got: object) -> InvalidRequest:
    return InvalidRequest(f"expected {name} to be {expected}, got {got!r}", field=name)
