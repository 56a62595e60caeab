"""How a recorder behaves: one frozen value, checked once."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tracker.errors import ConfigurationError
from tracker.store.database import DatabaseOptions

Durability = Literal["awaited", "buffered"]


def default_spill_dir() -> Path:
    """Where spill files go unless told otherwise: one private folder per user, because every
    process of a user adopts what a dead one left."""
    try:
        return Path.home() / ".local" / "state" / "flowtrail" / "spill"
    except RuntimeError:  # A container's user may have no home.
        return Path(tempfile.gettempdir()) / f"flowtrail-spill-{os.getuid()}"


@dataclass(frozen=True, slots=True)
class RecorderOptions:
    """Args:
    database: Where to write.
    durability: `awaited`: a step's end waits, shortly, for its flush, so that a worker killed
        right after has lost nothing. `buffered`: nothing ever waits.
    max_wait: Longest such wait, in seconds; never more than a quarter of what remains of the
        activity's timeouts.
    linger: Seconds that events which nobody waits for gather before they are written. Short steps
        then need one statement for start and end, and the end that is waited for does not find the
        connection busy with the start.
    max_batch: Most events in one statement.
    buffer_limit: Most events held in memory while a write is under way; beyond it events are
        dropped and counted.
    spill_dir: Folder for what cannot be written; kept on a disk that survives the process.
    spill_limit: Bytes of one process's spill file; beyond it events are dropped and counted.
    retry_after: Longest pause, in seconds, between two tries of a database that is away.
    """

    database: DatabaseOptions
    durability: Durability = "awaited"
    max_wait: float = 0.25
    linger: float = 0.02
    max_batch: int = 500
    buffer_limit: int = 100_000
    spill_dir: Path = field(default_factory=default_spill_dir)
    spill_limit: int = 256 * 1024 * 1024
    retry_after: float = 5.0

    def __post_init__(self) -> None:
        if self.durability not in ("awaited", "buffered"):
            raise ConfigurationError(
                f"expected durability to be 'awaited' or 'buffered', got {self.durability!r}"
            )
        for name in ("max_wait", "linger", "max_batch", "buffer_limit", "spill_limit"):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f"expected {name} to be 0 or more, got {getattr(self, name)!r}"
                )
        if self.max_batch < 1:
            raise ConfigurationError(f"expected max_batch to be 1 or more, got {self.max_batch}")
