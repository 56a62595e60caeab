"""Following the live feed over server-sent events: what both clients decide alike. No I/O.

A `Watch` outlives its connections: it knows its place in the feed, asks for what comes after it on
the next connection, and so misses nothing and tells nothing twice.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterator
from typing import Any

import httpx
from pydantic import ValidationError

from tracker.client.answers import EVENTS, failed_stream
from tracker.client.calls import Params, params
from tracker.core.status import CLOSED_RUN_STATUSES, RunStatus
from tracker.errors import (
    ApiUnavailable,
    Conflict,
    RunNotFinished,
    TrackerError,
    TransientError,
    UnexpectedAnswer,
)
from tracker.models.feed import Change, Snapshot, StreamFrom
from tracker.models.wire import RunRead

logger = logging.getLogger(__name__)

PATH = "/v1/stream"
SILENCE = 45.0
"""Seconds without a word after which a connection counts as dead; the server speaks every 15."""
LONGEST_PAUSE = 10.0
TOLD_AFTER = 3
"""Failures in a row after which a log line tells that a watch is interrupted."""

Until = Callable[[RunRead], bool] | str | Collection[str]


class Watch:
    """One watch of the feed.

    Args:
        asked: From `live_calls.watch`.
        retries: Failures in a row before the first connection that are put up with.
    """

    def __init__(self, asked: StreamFrom, retries: int) -> None:
        self._asked = asked
        self._retries = retries
        self._failures = 0
        self._connected = False
        self._last_id: str | None = None
        self._fields: dict[str, str] = {}
        self._rest = ""

    def request(self, timeout: float, silence: float = SILENCE) -> dict[str, Any]:
        """Keyword arguments for `stream` of either of httpx's clients."""
        headers = {"Accept": EVENTS, "Cache-Control": "no-store"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        query: Params = params(self._asked)
        return {
            "method": "GET",
            "url": PATH,
            "params": query or None,
            "headers": headers,
            "timeout": httpx.Timeout(timeout, read=silence),
        }

    @property
    def resumable(self) -> bool:
        """Whether the next connection goes on here: nothing is half read, and there is a place."""
        return self._last_id is not None and not self._rest and not self._fields

    def read(self, text: str) -> Iterator[Change | Snapshot]:
        """Take in what has come; gives what the events tell that are complete by it.

        Raises:
            UnexpectedAnswer: One is none that this version understands.
        """
        self._connected, self._failures = True, 0
        # Not by httpx's own lines: those end at U+2028 and others too, which JSON may contain.
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if (told := self._line(line.removesuffix("\r"))) is not None:
                yield told

    def _line(self, line: str) -> Change | Snapshot | None:
        if line:
            name, _, value = line.partition(":")
            if name:  # Else a comment, which keeps the connection alive.
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        try:
            told = _told(fields)
        except ValidationError as error:
            raise UnexpectedAnswer(
                f"the feed told something that this version of the client does not understand: "
                f"{str(error).splitlines()[0]}"
            ) from error
        self._last_id = fields.get("id", self._last_id)
        return told

    def refused(self, response: httpx.Response) -> TrackerError:
        """The error for an answer, read, that is no stream. A page is of a wrong address at the
        beginning, and later of a balancer, while the API is away."""
        error = failed_stream(response)
        if self._connected and isinstance(error, UnexpectedAnswer):
            return ApiUnavailable(error.message, sent=True)
        return error

    def interrupted(self, error: TransientError | None) -> float:
        """Seconds to wait before the next connection.

        Args:
            error: What ended the last one; None: the server did, in order.

        Raises:
            TransientError: That, where there has never been a connection and it was tried enough.
        """
        self._fields, self._rest = {}, ""
        if error is None:
            return 0.1
        if not self._connected and self._failures >= self._retries:
            raise error
        self._failures += 1
        if self._failures == TOLD_AFTER:
            logger.warning("nothing is heard of what is watched, trying on: %s", error)
        asked = error.details.get("retry_after")
        longest = min(LONGEST_PAUSE, 0.25 * 2 ** min(self._failures, 10))
        return (asked if isinstance(asked, float) else 0.0) + random.uniform(0.0, longest)


def _told(fields: dict[str, str]) -> Change | Snapshot | None:
    data = fields.get("data", "")
    match fields.get("event"):
        case "change":
            return Change.model_validate_json(data)
        case "snapshot":
            return Snapshot.model_validate_json(data)
        case _:
            return None


def lost_connection(base_url: str, error: httpx.RequestError) -> ApiUnavailable:
    """What a broken connection comes out as."""
    return ApiUnavailable(
        f"the connection to the API at {base_url} was lost",
        sent=True,
        cause=str(error) or type(error).__name__,
    )


class RunWatch:
    """Looks at a run, as it changes, for what a caller waits for.

    Args:
        until: A condition on the run, or statuses, of which it must have one; None: it has ended.
    """

    def __init__(self, until: Until | None) -> None:
        self._condition: Callable[[RunRead], bool] | None = None
        self._statuses: frozenset[str] = frozenset()
        if callable(until):
            self._condition = until
        elif until is None:
            self._statuses = frozenset(str(status) for status in CLOSED_RUN_STATUSES)
        else:
            given = [until] if isinstance(until, str) else list(until)
            self._statuses = frozenset(str(RunStatus(status)) for status in given)

    def look(self, told: Change | Snapshot) -> RunRead | None:
        """The run, if it is as the caller wants it.

        Raises:
            Conflict: It has ended otherwise, so that waiting is of no use.
        """
        run = (told.runs[0] if told.runs else None) if isinstance(told, Snapshot) else told.run
        if run is None:
            return None
        if self._as_wanted(run):
            return run
        final = run.from_history or run.temporal_run_id is None
        if run.status in CLOSED_RUN_STATUSES and final:
            wanted = " or ".join(sorted(self._statuses)) or "as the condition wants it"
            raise Conflict(
                f"run {run.run_id} has ended as {run.status}; it will not be {wanted}",
                run_id=str(run.run_id),
                status=str(run.status),
            )
        return None

    def _as_wanted(self, run: RunRead) -> bool:
        return run.status in self._statuses if self._condition is None else self._condition(run)


def not_yet(run_id: object, timeout: float) -> RunNotFinished:
    """The error for a run that was not as wanted in time."""
    return RunNotFinished(
        f"the run is not as wanted after {timeout:g} s; it goes on", run_id=str(run_id)
    )
