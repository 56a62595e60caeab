"""What a recorder counts, for metrics and for people who ask why a row is missing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RecorderCounters:
    """Monotonic counts since the recorder was made.

    Attributes:
        recorded: Events taken out of the buffer to be written.
        written: Events that are in the database.
        spilled: Events that went to the spill file.
        restored: Spilled batches written later, those of dead processes included.
        dropped: Events lost: spill file full, buffer full, or after the recorder was stopped.
        poisoned: Events that the database refuses whatever is done.
        flushes: Flushes that succeeded.
        failures: Flushes that failed.
        timeouts: Steps whose end did not wait for its flush any longer.
    """

    recorded: int = 0
    written: int = 0
    spilled: int = 0
    restored: int = 0
    dropped: int = 0
    poisoned: int = 0
    flushes: int = 0
    failures: int = 0
    timeouts: int = 0
