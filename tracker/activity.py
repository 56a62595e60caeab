"""What activity code may call: progress, annotations, facts about the current step, and the errors
that steer its retries.

Works in async activities, in threads and in process pools, and without the plugin: the step is then
known by its activity type, and annotations go nowhere. Nothing here makes an activity fail because
of the tracker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import isnan
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from temporalio import activity
from temporalio.exceptions import ApplicationError

from tracker.core.headers import Header
from tracker.core.retries import SHORTEST, UNCAPPED_FACTOR, Retry, exponential, next_delay

if TYPE_CHECKING:
    from uuid import UUID

    from temporalio.common import RetryPolicy

    from tracker.core.ids import Ref

__all__ = [
    "AttemptScope",
    "CurrentStep",
    "InProcess",
    "NonRetryable",
    "ProcessResult",
    "RetryAfter",
    "annotate",
    "attempt_scope",
    "current_step",
    "jitter_source",
    "progress",
    "retry_delay",
    "split_heartbeat",
]

PROGRESS = "flowtrail_progress"
"""Key of the last heartbeat detail, by which progress is told from the user's own details."""


def progress(
    *details: Any,
    done: float | None = None,
    total: float | None = None,
    message: str | None = None,
) -> None:
    """Send a heartbeat and record how far the step is.

    Args:
        details: What the next attempt needs to go on from here; it finds them in
            `current_step().heartbeat_details`. Each call replaces the details of the one before.
        done, total: Units of work, for people and dashboards.
        message: One line for people.

    Raises:
        RuntimeError: Outside an activity.
    """
    figures = {"done": done, "total": total, "message": message}
    shown = {name: value for name, value in figures.items() if value is not None}
    activity.heartbeat(*details, *([{PROGRESS: shown}] if shown else []))


def split_heartbeat(details: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    """The user's own heartbeat details, and the progress that `progress` put behind them."""
    last = details[-1] if details else None
    if isinstance(last, dict) and set(cast("dict[str, Any]", last)) == {PROGRESS}:
        return tuple(details[:-1]), cast("dict[str, Any]", last[PROGRESS])
    return tuple(details), None


def annotate(values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """Attach values to the current attempt, e.g. `annotate(http_status=503, batch=4)`.

    Recorded when the attempt ends, however it ends; a later value of a key replaces the earlier.
    What is not JSON is kept as its `str()`. Does nothing without the plugin.
    """
    scope = _scope.get()
    if scope is not None:
        scope.annotate({**(values or {}), **more})


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """The step that this activity is an attempt of.

    Attributes:
        name: As given to `tracker.workflow.step`, else the activity type.
        attempt: Number of this attempt, from 1.
        max_attempts: None: no limit.
        next_retry_at: When the next attempt is due if this one failed now with an error that may be
            retried (UTC, by this machine's clock). None: none would follow.
        ref: Primary ref of the run.
        run_id: Our id of the run.
        heartbeat_details: What the last attempt gave to `progress` or `activity.heartbeat`.
    """

    name: str
    attempt: int
    max_attempts: int | None
    next_retry_at: datetime | None
    ref: Ref | None
    run_id: UUID | None
    heartbeat_details: tuple[Any, ...]

    @property
    def is_last_attempt(self) -> bool:
        """Whether no attempt would follow if this one failed now."""
        return self.next_retry_at is None


def current_step() -> CurrentStep:
    """Facts about the current attempt, as they are at this moment.

    Raises:
        RuntimeError: Outside an activity.
    """
    info, scope = activity.info(), _scope.get()
    header = scope.header if scope else Header()
    now = datetime.now(UTC)
    pause = retry_delay(info, header.retry, now)
    return CurrentStep(
        name=header.step or info.activity_type,
        attempt=info.attempt,
        max_attempts=(info.retry_policy and info.retry_policy.maximum_attempts) or None,
        next_retry_at=None if pause is None else now + pause,
        ref=header.ref,
        run_id=header.run_id,
        heartbeat_details=split_heartbeat(info.heartbeat_details)[0],
    )


class NonRetryable(ApplicationError):
    """Ends the step at once, whatever its retry policy says.

    Args:
        message: For people.
        details: JSON-able facts; `tracker.workflow.step_failure` gives them to the workflow.
        type: Error type by which workflow code tells failures apart.
    """

    def __init__(self, message: str, *details: Any, type: str = "NonRetryable") -> None:
        super().__init__(message, *details, type=type, non_retryable=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # The inherited one passes the rendered text alone; a process pool would lose the rest.
        return (self.__class__, (self.message, *self.details), self.__dict__)


class RetryAfter(ApplicationError):
    """Fails the attempt; the next one comes after the delay that somebody else's server asked for.

    Args:
        message: For people.
        delay: Seconds, a timedelta, or the text of an HTTP `Retry-After` header: seconds or a date
            (RFC 9110 §10.2.3). None or an unreadable text leaves the delay to the retry policy.
        details: JSON-able facts.
        type: Error type by which workflow code tells failures apart.
        longest: Upper bound, so that a foreign header cannot park a step for years.
    """

    def __init__(
        self,
        message: str,
        delay: timedelta | float | str | None,
        *details: Any,
        type: str = "RetryAfter",
        longest: timedelta = timedelta(days=1),
    ) -> None:
        wanted = _seconds(delay)
        pause = None
        if wanted is not None:
            pause = max(SHORTEST, timedelta(seconds=min(wanted, longest.total_seconds())))
        super().__init__(message, *details, type=type, next_retry_delay=pause)

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.__class__, (self.message, None, *self.details), self.__dict__)


# From here on: for the plugin's activity interceptor.


@dataclass(slots=True)
class AttemptScope:
    """One attempt as the interceptor sees it: what its header says, and what it was annotated with.

    Thread-safe, because an activity may annotate from threads of its own.
    """

    header: Header
    _annotations: dict[str, Any] = field(default_factory=dict[str, Any])
    _lock: Lock = field(default_factory=Lock)

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Merge values, copied as JSON: users change their objects later."""
        copied = {str(key): _plain(value) for key, value in values.items()}
        with self._lock:
            self._annotations.update(copied)

    def annotations(self) -> dict[str, Any]:
        """What was annotated so far."""
        with self._lock:
            return dict(self._annotations)


@contextmanager
def attempt_scope(header: Header) -> Generator[AttemptScope]:
    """Make an attempt current for `annotate` and `current_step`, in this context and in those
    copied from it (Temporal runs threaded activities in a copy)."""
    scope = AttemptScope(header)
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """What `InProcess` brings back: the activity's own result, and its annotations."""

    value: Any
    annotations: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InProcess:
    """An activity function with its header, for a process pool, which copies no context.

    The call returns a `ProcessResult`; an error that leaves it carries the annotations in its
    attribute `flowtrail_annotations`.
    """

    fn: Callable[..., Any]
    header: Header

    def __call__(self, *args: Any) -> ProcessResult:
        """Run the activity function with its scope."""
        with attempt_scope(self.header) as scope:
            try:
                value = self.fn(*args)
            except BaseException as error:
                error.__dict__["flowtrail_annotations"] = scope.annotations()
                raise
            return ProcessResult(value, scope.annotations())


def retry_delay(info: activity.Info, retry: Retry | None, now: datetime) -> timedelta | None:
    """The wait before the next attempt if this one fails at `now` with an error that may be retried
    and sets no delay itself.

    Args:
        info: Of this attempt.
        retry: From the header, where the server's policy cannot express the delays.

    Returns:
        None if none follows: the limit is reached, or the next start would be past the
        schedule-to-close timeout.
    """
    policy = info.retry_policy
    if policy is None or 0 < policy.maximum_attempts <= info.attempt:
        return None
    if retry is not None and retry.needs_own_delays:
        pause = next_delay(retry, info.attempt, jitter_source(info))
    else:
        pause = _policy_delay(policy, info.attempt)
    limit = info.schedule_to_close_timeout
    return None if limit and now + pause > info.scheduled_time + limit else pause


def jitter_source(info: activity.Info) -> Callable[[], float]:
    """Random numbers for `next_delay`, the same for the same attempt, so that the retry time that
    `current_step` foretells is the one that the interceptor asks for."""
    return Random(f"{info.workflow_run_id}/{info.activity_id}/{info.attempt}").random


_scope: ContextVar[AttemptScope | None] = ContextVar("flowtrail_attempt", default=None)


def _policy_delay(policy: RetryPolicy, attempt: int) -> timedelta:
    cap = policy.maximum_interval or policy.initial_interval * UNCAPPED_FACTOR
    return exponential(policy.initial_interval, policy.backoff_coefficient, cap, attempt)


def _seconds(delay: timedelta | float | str | None) -> float | None:
    if delay is None:
        return None
    if isinstance(delay, timedelta):
        return delay.total_seconds()
    if not isinstance(delay, str):
        return None if isnan(delay) else float(delay)
    text = delay.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    return _seconds_until(text)


def _seconds_until(http_date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(http_date)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": UTC without a statement about the place.
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


def _plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=str))
    except (TypeError, ValueError, RecursionError):
        return str(value)
