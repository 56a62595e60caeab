"""An embedded PostgreSQL: one cluster in one directory, listening on loopback, with a password.

The password is random and kept in the cluster, which others cannot read: with trust, any local
user could become superuser and so run programs as us. It is part of `dsn()`: never log a DSN.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tracker.embedded.account import Account, let_in, server_account
from tracker.embedded.binaries import postgres_programs
from tracker.embedded.ownership import DirectoryLock, stop_orphans
from tracker.embedded.ports import LOOPBACK, accepts_connections
from tracker.embedded.process import (
    EmbeddedServerFailed,
    ServerProcess,
    launched,
    start_on_free_port,
)

if TYPE_CHECKING:
    import psutil

USER = "flowtrail"
PASSWORD_FILE = "flowtrail.password"

# The kernel's limit for a socket's path (sun_path): 108 bytes on Linux, 104 on macOS, with a NUL.
SOCKET_PATH_BYTES = 103

# Fast shutdown disconnects clients and writes a checkpoint; immediate shutdown recovers next time.
FAST_SHUTDOWN = signal.SIGINT
IMMEDIATE_SHUTDOWN = signal.SIGQUIT

SETTINGS = {"listen_addresses": LOOPBACK, "max_connections": "200", "timezone": "UTC"}
# For data that nobody will miss: about twice the speed of small commits.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server. `with EmbeddedPostgres.start(folder) as postgres: postgres.dsn("app")`."""

    port: int
    durable: bool
    password: str = field(repr=False)
    socket_dir: Path | None
    _programs: Path = field(repr=False)
    _process: ServerProcess = field(repr=False)
    _lock: DirectoryLock = field(repr=False)

    @classmethod
    def start(
        cls, data_dir: Path, *, port: int | None = None, durable: bool = True
    ) -> EmbeddedPostgres:
        """Start the server of `data_dir`, creating its cluster the first time; blocks until ready.

        Args:
            data_dir: Holds the cluster, its password and its log; made where missing.
            port: The preferred port; the next free one is taken when it is busy. None: any.
            durable: False trades safety on a power cut for speed: tests and benchmarks only.

        Raises:
            EmbeddedServersMissing: The extra `[embedded]` is not installed.
            DirectoryInUse: Another live process runs this directory's server.
            EmbeddedServerFailed: The server died; the message has the tail of its log.
            ConfigurationError: No free port, or a directory of another user.
        """
        programs = postgres_programs()
        data_dir = data_dir.absolute()
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = DirectoryLock.acquire(data_dir / "lock")
        try:
            cluster = _Cluster.prepare(programs, data_dir, durable)
            process, taken = start_on_free_port(port, lambda free: cluster.boot(free, durable))
        except BaseException:
            lock.release()
            raise
        return cls(taken, durable, cluster.password, cluster.socket_dir, programs, process, lock)

    @property
    def pid(self) -> int:
        return self._process.pid

    def dsn(self, database: str = "postgres") -> str:
        """The URL of a database of this server, with the password in it."""
        return f"postgresql://{USER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def create_database(
        self, name: str, *, template: str | None = None, exist_ok: bool = False
    ) -> None:
        """Create a database, empty or as a copy of `template` (to which nobody may be connected).

        Raises:
            EmbeddedServerFailed: It exists and not `exist_ok`, or the template is missing or used.
        """
        # Copying files beats writing the copy through the log, except that it needs checkpoints,
        # which are free without fsync.
        strategy = "wal_log" if self.durable else "file_copy"
        source = [] if template is None else ["--template", template]
        failure = self._run("createdb", "--strategy", strategy, *source, "--", name)
        if failure and not (exist_ok and "already exists" in failure):
            raise EmbeddedServerFailed(f"cannot create database {name!r}: {failure}")

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, disconnecting whoever uses it."""
        if failure := self._run("dropdb", "--force", "--if-exists", "--", name):
            raise EmbeddedServerFailed(f"cannot drop database {name!r}: {failure}")

    def stop(self) -> None:
        """Shut down, cleanly where possible. Safe to repeat."""
        self._process.stop(FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN)
        self._lock.release()

    def __enter__(self) -> EmbeddedPostgres:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, program: str, *arguments: str) -> str:
        """Run a client program on this server; what it complained about, empty if it succeeded."""
        connection = {
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": self.password,
        }
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            env=_environment() | connection,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr.strip() if done.returncode else ""


@dataclass(frozen=True)
class _Cluster:
    """A cluster on disk, ready to be served by `account`, with no server left over on it."""

    programs: Path
    data_dir: Path
    account: Account | None

    @classmethod
    def prepare(cls, programs: Path, data_dir: Path, durable: bool) -> _Cluster:
        account = server_account(data_dir)
        if account:
            os.chown(data_dir, account.uid, account.gid)
            let_in(account, data_dir)
            let_in(account, programs)
        cluster = cls(programs, data_dir, account)
        stop_orphans("postgres", cluster.serves, FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN)
        if not cluster.files.exists():
            cluster.initialize(durable)
        # Nothing serves the cluster, so its pid is stale; after a crash another program may have
        # that number by now and PostgreSQL would refuse to start.
        (cluster.files / "postmaster.pid").unlink(missing_ok=True)
        return cluster

    @property
    def files(self) -> Path:
        return self.data_dir / "cluster"

    @property
    def password(self) -> str:
        return (self.files / PASSWORD_FILE).read_text()

    @property
    def socket_dir(self) -> Path | None:
        """None where the path is too long for a socket: TCP is served in any case."""
        longest = os.fsencode(self.data_dir / ".s.PGSQL.65535.lock")
        return self.data_dir if len(longest) <= SOCKET_PATH_BYTES else None

    def serves(self, process: psutil.Process) -> bool:
        """Whether a `postgres` process works on this cluster (all of them run in its folder)."""
        return Path(process.cwd()) == self.files.resolve()

    def initialize(self, durable: bool) -> None:
        """Create the cluster beside its place, then move it there: never half a cluster."""
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self._new_password()
        command = [
            str(self.programs / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-instructions",
            *([] if durable else ["--no-sync"]),
        ]
        done = subprocess.run(
            launched(command, signal.SIGKILL, self.account),
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmbeddedServerFailed(f"initdb failed:\n{done.stderr.strip()}")
        password_file.rename(unfinished / PASSWORD_FILE)
        unfinished.rename(self.files)

    def boot(self, port: int, durable: bool) -> tuple[ServerProcess, int]:
        sockets = f'"{self.socket_dir}"' if self.socket_dir else ""
        settings = SETTINGS | ({} if durable else THROWAWAY)
        settings |= {"port": str(port), "unix_socket_directories": sockets}
        options = [argument for pair in settings.items() for argument in ("-c", "=".join(pair))]
        process = ServerProcess.start(
            "PostgreSQL",
            [str(self.programs / "postgres"), "-D", str(self.files), *options],
            death_signal=FAST_SHUTDOWN,
            log_file=self.data_dir / "postgres.log",
            account=self.account,
            environment=_environment(),
        )
        process.wait_until_ready(lambda: self._is_ready(process.pid) and accepts_connections(port))
        return process, port

    def _new_password(self) -> Path:
        path = self.data_dir / "password.new"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        if self.account:
            os.chown(path, self.account.uid, self.account.gid)
        return path

    def _is_ready(self, pid: int) -> bool:
        """Whether that server says so in its pid file, as `pg_ctl --wait` decides it."""
        try:
            lines = (self.files / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and lines[-1].strip() == "ready"


def _environment() -> dict[str, str]:
    """Ours without what libpq and PostgreSQL would take settings from; messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}
