"""Waiting for a run's output, as a generator: it yields what is to be done next (a call, a pause)
and is sent the answer, so that both clients share every decision and differ only in how they wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tracker.client import calls
from tracker.client.calls import Call, RunId
from tracker.client.options import ResultOptions, seconds
from tracker.core.status import RunStatus
from tracker.errors import (
    OutputNotKept,
    RunCanceled,
    RunContinued,
    RunFailed,
    RunLost,
    RunNotFinished,
    RunTerminated,
    RunTimedOut,
    StartRejected,
    TrackerError,
    UnexpectedAnswer,
)
from tracker.models.wire import RunResult

T = TypeVar("T")
LONG_POLL = 20.0
"""Seconds for which one request asks the server to wait; proxies often give up at 30."""
BETWEEN_POLLS = 0.2
"""Seconds of pause before asking again, so that a server that does not wait is not hammered."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


Flow = Generator[Call[Any] | Pause, Any, T]


def output_of(
    run_id: RunId, options: ResultOptions, as_type: Any, clock: Callable[[], float]
) -> Flow[Any]:
    """Wait until the run has ended, then give its output.

    Args:
        as_type: Type to which the JSON output is validated; None leaves it as it is.
        clock: Monotonic seconds.

    Raises:
        RunNotFinished: At the timeout.
        RunFailed: Or its subclass for how the run ended.
        StartRejected: If Temporal refused the start.
        OutputNotKept: If the run completed and the tracker does not hold its output.
    """
    timeout, follow_runs = options.get("timeout"), options.get("follow_runs", True)
    deadline = _Deadline(None if timeout is None else seconds(timeout), clock)
    answer = yield from _ended(run_id, deadline, follow_runs, is_continuation=False)
    while follow_runs and answer.continued_to is not None:
        next_run = answer.continued_to
        answer = yield from _ended(next_run, deadline, follow_runs, is_continuation=True)
    if answer.status is not RunStatus.COMPLETED:
        raise _failure(answer)
    if not answer.output_available:
        raise OutputNotKept(
            "the run completed, but its output is not in the tracker (payload policy or codec); "
            "ask Temporal for it",
            run_id=str(answer.run_id),
        )
    return answer.output if as_type is None else _typed(answer, as_type)


def _ended(
    run_id: RunId, deadline: _Deadline, follow_runs: bool, *, is_continuation: bool
) -> Flow[RunResult]:
    """Ask until the run has ended. The next run of a chain may not be on record yet."""
    while True:
        left = deadline.left()
        call = calls.result(run_id, LONG_POLL if left is None else min(LONG_POLL, left))
        call = replace(call, budget=left, absent_is_none=is_continuation)
        answer: RunResult | None = yield call
        if answer is not None and answer.done and not (follow_runs and _leads_on(answer)):
            return answer
        if deadline.left() == 0:
            raise RunNotFinished(
                f"no result after {deadline.timeout:g} s, the run goes on; ask again later",
                run_id=str(run_id),
            )
        yield Pause(deadline.at_most(BETWEEN_POLLS))


def _leads_on(answer: RunResult) -> bool:
    """Whether the run handed over and it is not known yet to which one: only history tells."""
    return answer.status is RunStatus.CONTINUED_AS_NEW and answer.continued_to is None


class _Deadline:
    def __init__(self, timeout: float | None, clock: Callable[[], float]) -> None:
        self.timeout = timeout
        self._clock = clock
        self._end = None if timeout is None else clock() + timeout

    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - self._clock())

    def at_most(self, pause: float) -> float:
        left = self.left()
        return pause if left is None else min(pause, left)


_ENDINGS: dict[RunStatus, tuple[type[TrackerError], str]] = {
    RunStatus.FAILED: (RunFailed, "the run failed"),
    RunStatus.CANCELED: (RunCanceled, "the run was canceled"),
    RunStatus.TERMINATED: (RunTerminated, "the run was terminated"),
    RunStatus.TIMED_OUT: (RunTimedOut, "the run timed out"),
    RunStatus.REJECTED: (StartRejected, "Temporal refused the start"),
    RunStatus.CONTINUED_AS_NEW: (
        RunContinued,
        "the run continued as a new one; follow_runs=True waits for that",
    ),
    RunStatus.LOST: (RunLost, "the run's history was gone before its end was seen"),
}


def _failure(answer: RunResult) -> TrackerError:
    error_type, what = _ENDINGS.get(answer.status, (UnexpectedAnswer, "the run ended oddly"))
    details: dict[str, Any] = {"run_id": str(answer.run_id), "status": str(answer.status)}
    if answer.continued_to is not None:
        details["continued_to"] = str(answer.continued_to)
    if answer.error is not None:
        details["error"] = answer.error.model_dump(exclude_none=True)
        what = f"{what}: {answer.error.type}: {answer.error.message or 'no message kept'}"
    return error_type(what, **details)


def _typed(answer: RunResult, as_type: Any) -> Any:
    # By way of JSON text, where pydantic reads dates, UUIDs and the like even in strict models.
    try:
        return TypeAdapter(as_type).validate_json(json.dumps(answer.output))
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"the run's output is not a {as_type!r}: {error}", run_id=str(answer.run_id)
        ) from error
