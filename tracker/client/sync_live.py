"""The part of the blocking client that follows what changes, and reports what others drive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar, Unpack

import httpx

from tracker.client import live_calls as calls
from tracker.client.answers import is_stream
from tracker.client.calls import Call, RunId
from tracker.client.options import (
    ConnectionOptions,
    Duration,
    ReportOptions,
    StepReportOptions,
    WatchOptions,
    seconds,
)
from tracker.client.watching import SILENCE, RunWatch, Until, Watch, lost_connection, not_yet
from tracker.errors import TransientError
from tracker.models.external import ReportedRun, ReportedStep
from tracker.models.feed import Change, ChangePage, Snapshot, Ticket
from tracker.models.wire import RunRead

T = TypeVar("T")

LATE_BY = 1.0
"""Seconds by which a wait may last longer than was asked for; up to `SILENCE` where the connection
dies in the middle of an event."""


class Live(ABC):
    """What a client can watch, and report."""

    _options: ConnectionOptions
    _http: httpx.Client
    _clock: Callable[[], float]
    _sleep: Callable[[float], None]

    @abstractmethod
    def _send(self, call: Call[T]) -> T: ...

    def watch(
        self,
        *,
        after: int | None = None,
        snapshot: int | None = None,
        **options: Unpack[WatchOptions],
    ) -> Generator[Change | Snapshot]:
        """What there is, and then each change, for ever.

        A `Snapshot` comes first, and again after an interruption for which changes were not kept:
        forget what you knew then. Other interruptions are bridged: the watch reconnects and goes on
        where it was, nothing missing and nothing twice.

        Args:
            after: Go on after this seq, without a snapshot: `Change.seq` of the last one taken in.
            snapshot: Runs in a snapshot, at most 500.

        Raises:
            ApiUnavailable: It cannot be reached at the beginning; later that is waited out.
        """
        watch = Watch(calls.watch(after, snapshot, options), self._options.retries)
        return self._follow(watch, None)

    def _follow(self, watch: Watch, deadline: float | None) -> Generator[Change | Snapshot]:
        """The watch's events, until `deadline` by the clock."""
        while (silence := self._silence(deadline)) > 0:
            trouble: TransientError | None = None
            try:
                request = watch.request(self._options.timeout, silence)
                with self._http.stream(**request) as answer:
                    if not is_stream(answer):
                        answer.read()
                        raise watch.refused(answer)
                    for text in answer.iter_text():
                        yield from watch.read(text)
                        left = self._silence(deadline)
                        # Reading gives up after `silence`, however much of it is over by now.
                        if left <= 0 or (watch.resumable and left < silence - LATE_BY):
                            break
            except httpx.RequestError as error:
                trouble = lost_connection(self._options.base_url, error)
            except TransientError as error:
                trouble = error
            pause = watch.interrupted(trouble)
            self._sleep(
                pause if deadline is None else min(pause, max(0.0, self._silence(deadline)))
            )

    def _silence(self, deadline: float | None) -> float:
        return SILENCE if deadline is None else min(SILENCE, deadline - self._clock())

    def wait_for(
        self, run_id: RunId, until: Until | None = None, *, timeout: Duration | None = None
    ) -> RunRead:
        """Wait until a run is as wanted, and return it as it is then.

        Args:
            until: Statuses, of which it must have one, or a condition on the run; None: its end,
                however it ends.
            timeout: Seconds or timedelta; None: for ever.

        Raises:
            Conflict: The run has ended, and not as wanted.
            NotFound: There is no such run.
            RunNotFinished: At the timeout.
        """
        wanted = RunWatch(until)
        left = None if timeout is None else seconds(timeout)
        deadline = None if left is None else self._clock() + left
        asked = calls.watch(None, None, {"run": run_id, "kinds": "run"})
        with closing(self._follow(Watch(asked, self._options.retries), deadline)) as told:
            for one in told:
                if (run := wanted.look(one)) is not None:
                    return run
        raise not_yet(run_id, left or 0.0)

    def changes(
        self,
        after: int = 0,
        *,
        limit: int | None = None,
        wait: Duration | None = None,
        **options: Unpack[WatchOptions],
    ) -> ChangePage:
        """What changed after a seq, oldest first; go on with `last_seq` of the page.

        Args:
            after: 0: all that are kept.
            wait: Seconds that the server waits for the first change.

        Raises:
            ChangesGone: Changes after this place are no longer kept.
        """
        patience = None if wait is None else seconds(wait)
        return self._send(calls.changes(after, limit, patience, options))

    def ticket(self) -> Ticket:
        """A ticket for one live connection of a browser, which cannot send a key: query parameter
        `ticket` of `/v1/stream` and `/v1/ws`, within a minute."""
        return self._send(calls.ticket())

    def report_run(self, **options: Unpack[ReportOptions]) -> ReportedRun:
        """Report what an externally driven run is doing; see `ReportOptions`.

        Raises:
            Conflict: Temporal drives it, or it has ended: only status `running` reopens it.
        """
        return self._send(calls.report_run(options))

    def report_step(
        self, run_id: RunId, name: str, status: str, **options: Unpack[StepReportOptions]
    ) -> ReportedStep:
        """Report what a step of such a run is doing; see `StepReportOptions`."""
        return self._send(calls.report_step(run_id, name, status, options))
