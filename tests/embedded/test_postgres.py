"""The embedded PostgreSQL on its own: what it serves, and what it says when it cannot."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import psycopg
import pytest

from tracker.embedded.ports import LOOPBACK, free_port
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.process import EmbeddedServerFailed


def test_data_and_password_survive_a_restart(folder: Path) -> None:
    with EmbeddedPostgres.start(folder, durable=False) as first:
        first.create_database("app")
        _execute(first.dsn("app"), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not psutil.pid_exists(first.pid)

    with EmbeddedPostgres.start(folder, durable=False) as second:
        assert _fetch(second.dsn("app"), "SELECT answer FROM kept") == 42
    assert second.password == first.password


def test_takes_the_next_port_when_the_preferred_one_is_busy(folder: Path) -> None:
    with socket.create_server((LOOPBACK, free_port(15_000))) as busy:
        preferred = busy.getsockname()[1]
        with EmbeddedPostgres.start(folder, port=preferred, durable=False) as server:
            assert server.port > preferred
            assert _fetch(server.dsn(), "SELECT 1") == 1


def test_refuses_a_wrong_password(postgres_server: EmbeddedPostgres) -> None:
    dsn = postgres_server.dsn().replace(postgres_server.password, "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn)


def test_listens_on_loopback_only(postgres_server: EmbeddedPostgres) -> None:
    assert _listening_addresses(postgres_server.pid) == {LOOPBACK}


def test_serves_a_socket_where_the_path_is_short(folder: Path) -> None:
    with EmbeddedPostgres.start(folder, durable=False) as server:
        assert server.socket_dir == folder
        over_socket = server.dsn().replace(LOOPBACK, str(folder).replace("/", "%2F"))
        assert _fetch(over_socket, "SELECT inet_client_addr()") is None


def test_does_without_a_socket_where_the_path_is_long_or_odd(folder: Path) -> None:
    with EmbeddedPostgres.start(folder / ("with space, " + "x" * 100), durable=False) as server:
        assert server.socket_dir is None
        assert _fetch(server.dsn(), "SELECT 1") == 1


@pytest.mark.parametrize("durable", [True, False])
def test_durability_is_a_choice(folder: Path, durable: bool) -> None:
    with EmbeddedPostgres.start(folder, durable=durable) as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            expected = "on" if durable else "off"
            assert _fetch(server.dsn(), f"SELECT current_setting('{setting}')") == expected


def test_clones_and_drops_databases(postgres_server: EmbeddedPostgres) -> None:
    postgres_server.create_database("origin")
    _execute(postgres_server.dsn("origin"), "CREATE TABLE copied AS SELECT 7 AS value")
    postgres_server.create_database("clone", template="origin")
    assert _fetch(postgres_server.dsn("clone"), "SELECT value FROM copied") == 7

    with psycopg.connect(postgres_server.dsn("clone")):
        postgres_server.drop_database("clone")
    postgres_server.drop_database("clone")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres_server.dsn("clone"))
    postgres_server.drop_database("origin")


def test_creating_a_database_twice_is_an_error_unless_allowed(
    postgres_server: EmbeddedPostgres,
) -> None:
    postgres_server.create_database("twice")
    postgres_server.create_database("twice", exist_ok=True)
    with pytest.raises(EmbeddedServerFailed, match=r"'twice'.*already exists"):
        postgres_server.create_database("twice")
    postgres_server.drop_database("twice")


def test_tells_the_end_of_the_log_when_the_server_dies(folder: Path) -> None:
    EmbeddedPostgres.start(folder, durable=False).stop()
    (folder / "cluster" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedServerFailed, match="initialized by PostgreSQL version 12"):
        EmbeddedPostgres.start(folder, durable=False)


def test_an_interrupted_first_start_is_begun_again(folder: Path) -> None:
    unfinished = folder / "cluster.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    (folder / "password.new").write_text("stale")
    with EmbeddedPostgres.start(folder, durable=False) as server:
        assert _fetch(server.dsn(), "SELECT 1") == 1


def test_a_stale_pid_file_with_the_pid_of_another_program_is_ignored(folder: Path) -> None:
    with EmbeddedPostgres.start(folder, durable=False) as server:
        pid_file = (folder / "cluster" / "postmaster.pid").read_text()
    stale = pid_file.replace(str(server.pid), str(os.getpid()), 1)
    (folder / "cluster" / "postmaster.pid").write_text(stale)
    with EmbeddedPostgres.start(folder, durable=False) as server:
        assert _fetch(server.dsn(), "SELECT 1") == 1


def _execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def _fetch(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def _listening_addresses(pid: int) -> set[str]:
    connections = psutil.Process(pid).net_connections("inet")
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
