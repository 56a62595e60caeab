"""One of our programs as a process that can be killed and started again.

It ends with the test process, whatever ends that (`tracker/embedded/launch.py`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.waiting import eventually
from tracker.embedded.process import ServerProcess

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
"""Seconds for a process to load all its modules, on a busy machine."""


class Program:
    """`python -m <words>`, with these settings and nothing else from our environment.

    Args:
        says: What its log has once it works.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, settings: Mapping[str, str], says: str
    ) -> None:
        self.settings = dict(settings)
        self._words = words
        self._folder = folder
        self._says = says
        self._starts = 0
        self._process: ServerProcess | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return self._folder.name

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def was_started(self) -> bool:
        """Whether it belongs to the site at all."""
        return self._process is not None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.alive

    @property
    def log(self) -> str:
        """What the latest process has written."""
        path = self._log_file
        return path.read_text(errors="replace") if path.exists() else ""

    async def start(self, **settings: str) -> None:
        """Start it, and wait until it works.

        Args:
            settings: In addition, from now on.
        """
        self.settings |= settings
        self._folder.mkdir(parents=True, exist_ok=True)
        self._starts += 1
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._process = ServerProcess.start(
            self._words[-1],
            [sys.executable, "-m", *self._words],
            death_signal=signal.SIGKILL,
            log_file=self._log_file,
            environment={**inherited, "PYTHONPATH": str(ROOT), **self.settings},
        )
        await self.says(self._says)

    async def says(self, text: str) -> None:
        """Wait until its log has a text; fails if it ends before."""

        def said() -> bool:
            if text in self.log:
                return True
            if not self.is_running:
                raise RuntimeError(f"{self._words[-1]} ended:\n{self.log[-4000:]}")
            return False

        await eventually(said, PATIENCE)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        assert self._process is not None
        await asyncio.to_thread(self._process.stop, signal.SIGTERM)

    @property
    def _log_file(self) -> Path:
        return self._folder / f"{self._words[-1]}-{self._starts}.log"
