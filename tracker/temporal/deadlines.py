"""Which of an attempt's timeouts has ended it, as far as its worker can know.

The server says nothing to a worker that is late: an attempt that its timeout ended may go on for
hours, and what it reports then is refused. Only the clock tells, by the server's own times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from temporalio import activity

from tracker.core.events import Failure

TIMER_GRACE = timedelta(seconds=2)
"""How long past a deadline the server may still take a report: its timers fire up to 1 s late in
the development server's stock settings."""


class Expiry(NamedTuple):
    """The end of an attempt by a timeout.

    Attributes:
        at: By the server's clock.
        timeout: `START_TO_CLOSE`, `SCHEDULE_TO_CLOSE` or `HEARTBEAT`.
    """

    at: datetime
    timeout: str

    def failure(self, *, keep_text: bool) -> Failure:
        """As the server words it."""
        message = f"activity {self.timeout.title().replace('_', '')} timeout"
        return Failure(type=f"TimeoutError/{self.timeout}", message=message if keep_text else None)


def expiry(
    info: activity.Info,
    *,
    asked_at: datetime,
    started_at: datetime,
    last_heartbeat: datetime | None,
    now: datetime,
) -> Expiry | None:
    """The timeout that has ended the attempt; None if the server may still take its report.

    Args:
        info: Of the attempt.
        asked_at, started_at, last_heartbeat, now: In server time.
    """
    told = activity.cancellation_details()
    is_told = told is not None and (told.timed_out or told.not_found)
    ends = [*_limits(info, asked_at, started_at)]
    # The SDK holds heartbeats back for a while, so the last one may have reached the server later:
    # unless it says so, only an attempt that sent none is known to have been silent too long.
    if info.heartbeat_timeout and (is_told or last_heartbeat is None):
        ends.append(Expiry((last_heartbeat or started_at) + info.heartbeat_timeout, "HEARTBEAT"))
    first = min(ends, default=None)
    grace = timedelta(0) if is_told else TIMER_GRACE
    return None if first is None or now < first.at + grace else first


def _limits(info: activity.Info, asked_at: datetime, started_at: datetime) -> Iterator[Expiry]:
    if info.start_to_close_timeout:
        yield Expiry(started_at + info.start_to_close_timeout, "START_TO_CLOSE")
    if info.schedule_to_close_timeout:
        yield Expiry(asked_at + info.schedule_to_close_timeout, "SCHEDULE_TO_CLOSE")
