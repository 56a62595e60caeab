"""One process per data directory, and no server left over from a process that was killed.

The lock belongs to the process and goes with it, so it never has to be cleaned up. Whoever holds
it may stop any server that still runs on the directory: its owner is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tracker.errors import ConfigurationError

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)

ORPHAN_SECONDS = 10.0
POLL_SECONDS = 0.01

_held: set[Path] = set()


class DirectoryInUse(ConfigurationError):
    """Another live process runs a server on this data directory."""

    code = "directory_in_use"


class DirectoryLock:
    """The right to run the server of one data directory, until `release` or the process ends."""

    def __init__(self, path: Path, handle: IO[str]) -> None:
        self._path = path
        self._handle = handle

    @classmethod
    def acquire(cls, path: Path) -> DirectoryLock:
        """Take the lock file `path`, made where missing.

        Raises:
            DirectoryInUse: Another process, or another server of this one, holds it.
        """
        path = path.resolve()
        if path in _held:
            raise DirectoryInUse(f"{path.parent} is in use by this process already")
        handle = path.open("a+")
        try:
            # A POSIX lock, for children that fork from us do not inherit it. It says nothing to
            # our own process, hence the set.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            handle.close()
            raise DirectoryInUse(
                f"{path.parent} is in use by process {owner}: stop it, or choose another directory"
            ) from None
        _held.add(path)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        return cls(path, handle)

    def release(self) -> None:
        """Give it back. Safe to repeat."""
        if not self._handle.closed:
            self._handle.close()
            _held.discard(self._path)


def stop_orphans(
    program: str, is_ours: Callable[[psutil.Process], bool], *signals: signal.Signals
) -> None:
    """Stop each process called `program` that `is_ours`: by every signal in turn, then SIGKILL.

    Call it with the directory's lock held.
    """
    import psutil

    orphans = [process for process in psutil.process_iter() if _matches(process, program, is_ours)]
    for chosen in (*signals, signal.SIGKILL):
        if not orphans:
            return
        logger.warning(
            "stopping a %s that a killed process left behind (%s)",
            program,
            ", ".join(str(orphan.pid) for orphan in orphans),
            extra={"event": "embedded.orphan_stopped"},
        )
        for orphan in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.send_signal(chosen)
        orphans = _still_running(orphans)


def _matches(
    process: psutil.Process, program: str, is_ours: Callable[[psutil.Process], bool]
) -> bool:
    import psutil

    try:
        return process.name() == program and is_ours(process)
    except psutil.Error:
        return False


def _still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended after a while."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while processes and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        processes = [process for process in processes if not _ended(process)]
    return processes


def _ended(process: psutil.Process) -> bool:
    import psutil

    try:
        # In a container without an init process nobody reaps orphans: they stay as zombies.
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
