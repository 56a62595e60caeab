"""One server as a child process: spawn, wait until it is ready, stop, and tell why it died.

The child gets its own session, so that Ctrl-C in a terminal reaches us first, and a death signal,
so that it never outlives us (Linux; `launch`).
"""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from tracker.embedded.account import Account
from tracker.embedded.ports import free_port
from tracker.errors import FatalError

logger = logging.getLogger(__name__)

Server = TypeVar("Server")

LAUNCHER = Path(__file__).with_name("launch.py")
READY_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.01
SHOWN = 4_000  # characters of a server's output
BOOTS = 6

# How the output of a Go program that crashed says why, before hundreds of lines of stacks.
CRASH = re.compile(r"^(fatal error|panic): ", re.MULTILINE)


class EmbeddedServerFailed(FatalError):
    """An embedded server did not start; the message ends with what it said, shortened."""

    code = "embedded_server_failed"


@dataclass(frozen=True)
class ServerProcess:
    """A running child and its log. Make it with `start`; whoever started it must `stop` it."""

    name: str
    child: subprocess.Popen[bytes]
    log: IO[bytes]

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        death_signal: signal.Signals,
        log_file: Path | None = None,
        account: Account | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ServerProcess:
        """Spawn `command`; returns before it is ready.

        Args:
            name: What people call the server, for messages.
            command: Program (absolute path) and its arguments.
            death_signal: What the child receives when this process ends.
            log_file: Where its output goes, replacing an older one; None: an anonymous file.
            account: The system user to run as; None: the current one.
            environment: Its whole environment; None: ours.
        """
        log = tempfile.TemporaryFile() if log_file is None else log_file.open("w+b")  # noqa: SIM115
        try:
            child = _spawn(launched(command, death_signal, account), log, environment)
        except BaseException:
            log.close()
            raise
        return cls(name, child, log)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    def wait_until_ready(self, ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Return as soon as `ready()` holds; stop the server if it never does.

        Raises:
            EmbeddedServerFailed: It died or was not ready within `seconds`.
        """
        try:
            self._poll(ready, time.monotonic() + seconds)
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def stop(self, *signals: signal.Signals, seconds: float = STOP_SECONDS) -> None:
        """Send each signal in turn until it ends, `seconds` apart, then SIGKILL. Safe to repeat."""
        for chosen in signals:
            self.child.send_signal(chosen)
            try:
                self.child.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            self.child.kill()
            self.child.wait()
        self.log.close()

    def _poll(self, ready: Callable[[], bool], deadline: float) -> None:
        while not ready():
            if not self.alive:
                raise self._failed(f"stopped with exit code {self.child.returncode}")
            if time.monotonic() > deadline:
                raise self._failed("was not ready in time")
            time.sleep(POLL_SECONDS)

    def _failed(self, what: str) -> EmbeddedServerFailed:
        text = self._output().strip() or "(nothing)"
        return EmbeddedServerFailed(f"the embedded {self.name} {what}; its output:\n{text}")

    def _output(self) -> str:
        """The end of it, or what follows the reason of a crash."""
        # pread: the child writes through the same file offset.
        whole = os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0)
        text = whole.decode(errors="replace")
        crash = CRASH.search(text)
        return text[crash.start() :][:SHOWN] if crash else text[-SHOWN:]


def start_on_free_port(preferred: int | None, boot: Callable[[int], Server]) -> Server:
    """Call `boot` with a free port, again with another one after a failure that may pass.

    Those are a port that was taken in between, and a crash of the program itself: Temporal's server
    has a rare race when it starts, "concurrent map read and map write" (temporalio/cli#199).
    """
    for _ in range(BOOTS - 1):
        try:
            return boot(free_port(preferred))
        except EmbeddedServerFailed as failure:
            taken = "address already in use" in failure.message.lower()
            if not (taken or CRASH.search(failure.message)):
                raise
            logger.warning("starting it again: %s", failure.message)
    return boot(free_port(preferred))


def launched(
    command: Sequence[str], death_signal: signal.Signals, account: Account | None
) -> list[str]:
    """The command line that runs `command` through `launch`, as `account`, tied to our life."""
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    identity = [str(value) for value in (os.getpid(), int(death_signal), uid, gid)]
    return [sys.executable, "-I", "-S", str(LAUNCHER), *identity, *command]


def _spawn(
    command: list[str], log: IO[bytes], environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    def popen() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            start_new_session=True,
        )

    return _SpawnThread.of_this_process().call(popen)


class _SpawnThread:
    """A thread that lives as long as the process, for the kernel sends the death signal when the
    *thread* that forked the child ends, be the process still alive."""

    _current: _SpawnThread | None = None
    _creation = threading.Lock()

    def __init__(self) -> None:
        self.process = os.getpid()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="flowtrail-spawn", daemon=True).start()

    @classmethod
    def of_this_process(cls) -> _SpawnThread:
        with cls._creation:
            # A fork copies this object, but not its thread.
            if cls._current is None or cls._current.process != os.getpid():
                cls._current = cls()
            return cls._current

    def call(self, function: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        outcome: Future[subprocess.Popen[bytes]] = Future()

        def run() -> None:
            try:
                outcome.set_result(function())
            except BaseException as error:
                outcome.set_exception(error)

        self._calls.put(run)
        return outcome.result()

    def _run(self) -> None:
        while True:
            self._calls.get()()
