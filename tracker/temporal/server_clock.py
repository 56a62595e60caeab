"""The server's time in a worker: what the server stamped last, plus the monotonic clock since.

A worker's wall clock may be anywhere, and workflow time stands still within a workflow task: of
retries of a local activity it counts only the last one.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

SLEW = 500e-6
"""How much one of the two clocks may gain on the other: NTP corrects a clock by at most 500 ppm."""


class ServerClock:
    """Shared by a worker's threads; a lost race between two observations does no harm."""

    def __init__(self) -> None:
        self._zero: datetime | None = None
        self._observed = 0.0

    def observe(self, moment: datetime, at: float | None = None) -> None:
        """Learn a time that the server stamped, not later than now.

        Stamps reach us late, some very late, so the one that puts the clock furthest on counts.

        Args:
            at: Reading of `time.monotonic()`; default now.
        """
        reading = time.monotonic() if at is None else at
        zero, known = moment - timedelta(seconds=reading), self._zero
        if known is None or zero > known - timedelta(seconds=SLEW * (reading - self._observed)):
            self._zero, self._observed = zero, reading

    def at(self, reading: float) -> datetime | None:
        """Server time at a reading of `time.monotonic()`; None before the first observation."""
        return None if self._zero is None else self._zero + timedelta(seconds=reading)

    def now(self) -> datetime | None:
        """Server time now; None before the first observation."""
        return self.at(time.monotonic())
