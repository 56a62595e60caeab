"""PgBouncer in transaction mode before a test's database.

From Debian's package, which is installed where the tests run as root; the wheels have none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tracker.embedded.ports import free_port

SERVERS = 2
"""Connections to the database: so few that callers are moved from one to the other."""

_CONFIG = """
[databases]
* = host={host} port={port} user={user} password={password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 200
server_reset_query_always = 0
ignore_startup_parameters = extra_float_digits
{owner}
"""


@contextmanager
def pooled(dsn: str) -> Iterator[str]:
    """The URL of the same database through a pooler that runs meanwhile."""
    program, given, listen = _program(), conninfo_to_dict(dsn), free_port()
    with TemporaryDirectory(prefix="flowtrail-pgbouncer-") as folder:
        config = Path(folder) / "pgbouncer.ini"
        # It refuses to run as root; the config is read before it changes over.
        owner = "user = nobody" if os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(**given, listen=listen, servers=SERVERS, owner=owner))
        process = subprocess.Popen(
            [program, "-q", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            through = make_conninfo(dsn, host="127.0.0.1", port=listen)
            _wait(process, through)
            yield f"postgresql://{given['user']}@127.0.0.1:{listen}/{given['dbname']}"
        finally:
            process.terminate()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


def _wait(process: subprocess.Popen[bytes], dsn: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                told = b"" if process.stderr is None else process.stderr.read()
                pytest.fail(f"PgBouncer does not answer: {told.decode()}")
            time.sleep(0.05)


def _program() -> str:
    if _found() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "pgbouncer"]
        if not _ran(install):
            _ran(["apt-get", "update"])
            _ran(install)
    found = _found()
    if found is None:
        pytest.fail("this test needs PgBouncer: apt-get install pgbouncer")
    return found


def _ran(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _found() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
