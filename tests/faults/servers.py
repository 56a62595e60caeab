"""A durable PostgreSQL and a Temporal on a file, which may be killed and come back with what they
had; each on the port that it had, so that nobody has to be told.

The calls block: tests run them in a thread, for the proxies live on the test's event loop.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.conftest import MANY_NAMESPACES
from tracker.embedded.binaries import postgres_programs
from tracker.embedded.ports import LOOPBACK, accepts_connections
from tracker.embedded.postgres import USER, EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal


class Servers:
    """Start with `start`; `stop` ends both, however they are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.postgres: EmbeddedPostgres = self._new_postgres(None)
        try:
            self.temporal: EmbeddedTemporal = self._new_temporal(None)
        except BaseException:
            self.postgres.stop()
            raise

    def stop(self) -> None:
        """End both."""
        self.postgres.stop()
        self.temporal.stop()

    def revive(self) -> None:
        """Start again what was killed."""
        if not accepts_connections(self.postgres.port):
            self.start_postgres()
        if not accepts_connections(self.temporal.port):
            self.start_temporal()

    def kill_postgres(self) -> None:
        """SIGKILL to the postmaster; its backends notice and end."""
        os.kill(self.postgres.pid, signal.SIGKILL)
        self.postgres.stop()

    def start_postgres(self) -> None:
        """On the same directory and port: it recovers from its log."""
        self.postgres = self._new_postgres(self.postgres.port)

    def kill_temporal(self) -> None:
        """SIGKILL."""
        os.kill(self.temporal.pid, signal.SIGKILL)
        self.temporal.stop()

    def start_temporal(self) -> None:
        """On the same file and port."""
        self.temporal = self._new_temporal(self.temporal.port)

    def back_up(self) -> None:
        """A base backup of the running PostgreSQL, as its users make them."""
        target = self._backup
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        os.chown(target, *self._owner)
        command = [
            str(postgres_programs() / "pg_basebackup"),
            f"--pgdata={target}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--no-sync",
        ]
        connection = {
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.postgres.port),
            "PGUSER": USER,
            "PGPASSWORD": self.postgres.password,
        }
        subprocess.run(command, env=os.environ | connection, check=True, capture_output=True)

    def restore_backup(self) -> None:
        """Put the backup in the place of a PostgreSQL that was killed, and start it."""
        owner = self._owner
        shutil.rmtree(self._cluster)
        shutil.copytree(self._backup, self._cluster)
        self._cluster.chmod(0o700)
        for path in (self._cluster, *self._cluster.rglob("*")):
            os.chown(path, *owner)
        self.start_postgres()

    @property
    def _cluster(self) -> Path:
        return self._folder / "postgres" / "cluster"

    @property
    def _backup(self) -> Path:
        return self._folder / "backup"

    @property
    def _owner(self) -> tuple[int, int]:
        stat = self._cluster.stat()
        return stat.st_uid, stat.st_gid

    def _new_postgres(self, port: int | None) -> EmbeddedPostgres:
        postgres = EmbeddedPostgres.start(self._folder / "postgres", port=port)
        assert port in (None, postgres.port), "somebody took the port meanwhile"
        return postgres

    def _new_temporal(self, port: int | None) -> EmbeddedTemporal:
        temporal = EmbeddedTemporal.start(
            self._folder / "temporal.db",
            port=port,
            headless=True,
            dynamic_config=MANY_NAMESPACES,
            log_file=self._folder / "temporal.log",
        )
        assert port in (None, temporal.port), "somebody took the port meanwhile"
        return temporal
