"""An embedded Temporal: the real server in its development form, listening on loopback.

Its stock settings make workflows wait (polls 20 times a second, timers up to 1 s late), so every
development server, test and benchmark of ours starts it through here.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tracker.embedded.binaries import temporal_program
from tracker.embedded.ownership import DirectoryLock, stop_orphans
from tracker.embedded.ports import LOOPBACK, accepts_connections, free_port
from tracker.embedded.process import ServerProcess, start_on_free_port

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)

DEFAULT_NAMESPACE = "default"

# Each with its measured effect on Server 1.32; docs/benchmarks.md has the figures.
DYNAMIC_CONFIG: Mapping[str, object] = {
    # A workflow of three steps takes 33 ms instead of 200 ms.
    "history.transferProcessorMaxPollRPS": 1000,
    # Timers and retries fire within milliseconds instead of up to 1 s late.
    "history.timerProcessorMaxTimeShift": "1ms",
    # Continue-as-new and reuse of a workflow id wait 1 s otherwise.
    "history.workflowIdReuseMinimalInterval": "0s",
    # 50 callers listing workflows get 1,000 answers a second instead of 80.
    "frontend.namespaceRPS.visibility": 1000,
    # Pausing a workflow is refused otherwise; pausing an activity works without.
    "frontend.WorkflowPauseEnabled": True,
}
# Without the first, a database file costs two thirds of the throughput of memory; with both, none.
# NORMAL loses the last commits on a power cut, but never the file.
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL")


@dataclass(frozen=True)
class EmbeddedTemporal:
    """A running server. `with EmbeddedTemporal.start() as temporal: temporal.address`."""

    port: int
    ui_port: int | None
    namespaces: tuple[str, ...]
    _process: ServerProcess = field(repr=False)
    _lock: DirectoryLock | None = field(repr=False)

    @classmethod
    def start(
        cls,
        db_file: Path | None = None,
        *,
        port: int | None = None,
        ui_port: int | None = None,
        headless: bool = False,
        namespaces: Sequence[str] = (),
        search_attributes: Mapping[str, str] | None = None,
        dynamic_config: Mapping[str, object] | None = None,
        extra_arguments: Sequence[str] = (),
        log_file: Path | None = None,
    ) -> EmbeddedTemporal:
        """Start a server; blocks until it answers for every namespace.

        Args:
            db_file: SQLite file, made where missing; None: in memory.
            port: The preferred gRPC port; the next free one is taken when it is busy. None: any.
            ui_port: The same for the Web UI, without meaning when `headless`.
            headless: No Web UI.
            namespaces: Made beside `default`.
            search_attributes: Name to type (`Keyword`, `Int`, …), for every namespace made here.
            dynamic_config: Added to `DYNAMIC_CONFIG`; values are JSON-able.
            extra_arguments: Further arguments of `temporal server start-dev`.
            log_file: Where warnings and errors go, replacing an older file; None: nowhere.

        Raises:
            EmbeddedServersMissing: The extra `[embedded]` is not installed.
            DirectoryInUse: Another live process runs a server on `db_file`.
            EmbeddedServerFailed: The server died; the message has the tail of its log.
            ConfigurationError: No free port.
        """
        plan = _Plan(
            program=temporal_program(),
            db_file=db_file.absolute() if db_file else None,
            preferred_ui_port=ui_port,
            headless=headless,
            namespaces=(DEFAULT_NAMESPACE, *namespaces),
            search_attributes=search_attributes or {},
            dynamic_config={**DYNAMIC_CONFIG, **(dynamic_config or {})},
            extra_arguments=extra_arguments,
            log_file=log_file,
        )
        lock = _own(plan.db_file) if plan.db_file else None
        try:
            process, taken, taken_ui = start_on_free_port(port, plan.boot)
        except BaseException:
            if lock:
                lock.release()
            raise
        return cls(taken, taken_ui, plan.namespaces, process, lock)

    @property
    def address(self) -> str:
        """What a client connects to: `host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def ui_url(self) -> str | None:
        return f"http://{LOOPBACK}:{self.ui_port}" if self.ui_port else None

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Shut down. Safe to repeat."""
        # A graceful end takes over a second; without a file there is nothing to save.
        self._process.stop(*([signal.SIGTERM] if self._lock else []))
        if self._lock:
            self._lock.release()

    def __enter__(self) -> EmbeddedTemporal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@dataclass(frozen=True)
class _Plan:
    """Everything about a server but its ports."""

    program: Path
    db_file: Path | None
    preferred_ui_port: int | None
    headless: bool
    namespaces: tuple[str, ...]
    search_attributes: Mapping[str, str]
    dynamic_config: Mapping[str, object]
    extra_arguments: Sequence[str]
    log_file: Path | None

    def boot(self, port: int) -> tuple[ServerProcess, int, int | None]:
        if self.db_file:
            _begin(self.db_file)
        http_port = free_port()
        ui_port = None if self.headless else free_port(self.preferred_ui_port)
        process = ServerProcess.start(
            "Temporal server",
            self._command(port, http_port, ui_port),
            # What is in memory dies with the process anyway; a file survives any signal.
            death_signal=signal.SIGKILL,
            log_file=self.log_file,
            environment=_environment(),
        )
        process.wait_until_ready(
            lambda: (
                accepts_connections(port)
                and all(_namespace_answers(http_port, name) for name in self.namespaces)
            )
        )
        if self.db_file:
            _unfinished(self.db_file).unlink(missing_ok=True)
        return process, port, ui_port

    def _command(self, port: int, http_port: int, ui_port: int | None) -> list[str]:
        command = [str(self.program), "server", "start-dev", "--ip", LOOPBACK]
        command += ["--port", str(port), "--http-port", str(http_port), "--log-level", "warn"]
        if ui_port:
            command += ["--ui-port", str(ui_port), "--ui-disable-news-fetch"]
        else:
            command += ["--headless"]
        for name in self.namespaces[1:]:
            command += ["--namespace", name]
        if self.db_file:
            command += ["--db-filename", str(self.db_file)]
            command += [part for pragma in SQLITE_PRAGMAS for part in ("--sqlite-pragma", pragma)]
        for name, kind in self.search_attributes.items():
            command += ["--search-attribute", f"{name}={kind}"]
        for name, value in self.dynamic_config.items():
            command += ["--dynamic-config-value", f"{name}={json.dumps(value)}"]
        return [*command, *self.extra_arguments]


def _own(db_file: Path) -> DirectoryLock:
    """Lock a database file and stop a server that a killed process left on it."""
    db_file.parent.mkdir(parents=True, exist_ok=True)
    lock = DirectoryLock.acquire(db_file.with_name(f"{db_file.name}.lock"))

    def works_on_it(process: psutil.Process) -> bool:
        return str(db_file) in process.cmdline()

    stop_orphans("temporal", works_on_it, signal.SIGTERM)
    return lock


def _begin(db_file: Path) -> None:
    """Put aside what a server left that died while it made its tables: none starts on that again.
    Not deleted, for it may be something else that somebody put there since."""
    unfinished = _unfinished(db_file)
    if unfinished.exists() and db_file.exists():
        aside = db_file.with_name(f"{db_file.name}.unfinished-{time.time_ns()}")
        logger.warning("%s was never finished; it is %s now, and made anew", db_file, aside.name)
        for suffix in ("", "-wal", "-shm", "-journal"):
            part = db_file.with_name(f"{db_file.name}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
    if not db_file.exists():
        unfinished.touch()


def _unfinished(db_file: Path) -> Path:
    """What stands beside a database from before its first start until that has succeeded."""
    return db_file.with_name(f"{db_file.name}.unfinished")


def _namespace_answers(http_port: int, name: str) -> bool:
    """Whether the frontend describes the namespace, over its HTTP API: no gRPC needed here."""
    connection = http.client.HTTPConnection(LOOPBACK, http_port, timeout=5)
    try:
        connection.request("GET", f"/api/v1/namespaces/{name}")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _environment() -> Mapping[str, str]:
    """Ours without the variables that would change the server or make it ask for updates."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return kept | {"TEMPORAL_VERSION_CHECK_DISABLED": "1"}
