"""How many live connections a process has: each costs memory and a share of every change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tracker.errors import TransientError


class LiveConnections:
    """Counts the live connections of a process, and refuses more than it may have."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.open = 0

    def check(self) -> None:
        """Look whether one more may be made.

        Raises:
            TransientError: There are as many as may be.
        """
        if self.open >= self._most:
            raise TransientError(
                f"this process has {self._most} live connections and takes no more; try again, or "
                "raise FLOWTRAIL_LIVE_CONNECTIONS"
            )

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """A connection, for as long as the block."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
