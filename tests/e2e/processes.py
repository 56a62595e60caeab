"""The application's programs as real processes, configured by environment variables alone."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Program:
    """One `flowtrail <command>` process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and wait for the exit code."""
        if self.is_running:
            self._process.terminate()
        return await self._process.wait()


@asynccontextmanager
async def program(
    command: str, folder: Path, environment: Mapping[str, str]
) -> AsyncGenerator[Program]:
    """Run `flowtrail <command>` in a folder of its own; its log is printed if the test fails."""
    os.makedirs(folder, exist_ok=True)
    log = folder / f"{command}.log"
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tracker.cli",
            command,
            cwd=folder,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    running = Program(process, log)
    try:
        yield running
    except BaseException:
        sys.stderr.write(f"--- {log}\n{running.log}\n")
        raise
    finally:
        if running.is_running:
            await running.kill()
