"""Reads why a step failed out of the errors that Temporal raises in workflow code.

Part of `tracker.workflow`, which exports it; sandbox-safe. What a reader would get wrong: the error
that reaches workflow code holds only the last failure and no count of attempts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    FailureError,
    RetryState,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why a step failed for good.

    Attributes:
        step: Name of the step; of a child workflow or a plain activity its type.
        attempts: Tries it took. Temporal does not tell workflow code, so it is known only if the
            limit given to `step` was reached.
        retry_state: Why there was no further try, e.g. `maximum_attempts_reached`,
            `non_retryable_failure`, `timeout`, `cancel_requested`.
        error_type, message, details: Of the last error that code raised; of the timeout or
            cancellation if there was none.
        timeout: `start_to_close`, `heartbeat`, … if a timeout ended it.
        is_canceled: Whether it ended by cancellation.
    """

    step: str
    attempts: int | None
    retry_state: str | None
    error_type: str
    message: str
    details: tuple[Any, ...]
    timeout: str | None
    is_canceled: bool

    @property
    def is_timeout(self) -> bool:
        """Whether a timeout ended it."""
        return self.timeout is not None


def step_failure(error: BaseException) -> StepFailure | None:
    """What a caught error says about the step that failed; None if it comes from no step.

    Args:
        error: From `step`, `execute_activity` or `execute_child_workflow`, or one raised from it.
            A local activity's error is known only from `step`: Temporal raises it bare.
    """
    chain = list(_causes(error))
    position = next((at for at, e in enumerate(chain) if _is_of_step(e)), None)
    if position is None:
        return None
    failed, inside = chain[position], chain[position:]
    mark = cast("_Mark", getattr(failed, _MARK, _NO_MARK))
    last = next((e for e in inside if not isinstance(e, _WRAPPERS)), chain[-1])
    timeout = next((e for e in inside if isinstance(e, TemporalTimeoutError)), None)
    state = failed.retry_state if isinstance(failed, _OF_STEPS) else None
    return StepFailure(
        step=mark.name or _type_of_step(failed),
        attempts=mark.max_attempts if state is RetryState.MAXIMUM_ATTEMPTS_REACHED else None,
        retry_state=state.name.lower() if state else None,
        error_type=_error_type(last),
        message=last.message if isinstance(last, FailureError) else str(last),
        details=tuple(last.details) if isinstance(last, (ApplicationError, CancelledError)) else (),
        timeout=timeout.type.name.lower() if timeout and timeout.type else None,
        is_canceled=any(isinstance(e, CancelledError) for e in inside),
    )


def mark_failure(error: FailureError, name: str, max_attempts: int | None) -> None:
    """Leave on Temporal's error what it lacks: the step's name and its limit of attempts."""
    setattr(error, _MARK, _Mark(name, max_attempts))


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str = ""
    max_attempts: int | None = None


_MARK = "__flowtrail_step__"
_NO_MARK = _Mark()
_OF_STEPS = (ActivityError, ChildWorkflowError)
_WRAPPERS = (*_OF_STEPS, TemporalTimeoutError)
"""Errors that Temporal puts around the one that code raised. What is below that one is its own
`raise … from …`, a detail of the activity."""

_DEEPEST = 100
"""Errors in a chain; a chain that closes on itself would hang the workflow's thread."""


def _causes(error: BaseException) -> Iterable[BaseException]:
    current: BaseException | None = error
    for _ in range(_DEEPEST):
        if current is None:
            return
        yield current
        current = current.__cause__


def _is_of_step(error: BaseException) -> bool:
    return isinstance(error, _OF_STEPS) or hasattr(error, _MARK)


def _type_of_step(failed: BaseException) -> str:
    if isinstance(failed, ActivityError):
        return failed.activity_type
    return failed.workflow_type if isinstance(failed, ChildWorkflowError) else ""


def _error_type(error: BaseException) -> str:
    own = error.type if isinstance(error, ApplicationError) else None
    return own or type(error).__name__
