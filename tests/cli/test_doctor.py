"""`flowtrail doctor`: what is broken on purpose is found, and the fix is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.conftest import CommandLine
from tests.factories import ARun
from tests.store.test_dead_entries import a_dead_start
from tests.store.test_record import write
from tests.store.test_reseal import put, sealed
from tracker.embedded.ports import free_port
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.encryption import new_keyring
from tracker.store.database import Database

RING = new_keyring("k1")


@dataclass(frozen=True)
class Found:
    """What the doctor says of one check."""

    health: str
    found: str
    fix: str | None


Doctor = Callable[..., Found]


@pytest.fixture
def doctor(
    cli: CommandLine, database: str, temporal_server: EmbeddedTemporal, namespace: str
) -> Doctor:
    """Runs it in a healthy place, but for what is set."""
    cli.set(database_url=database)
    cli.monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    cli.monkeypatch.setenv("TEMPORAL_NAMESPACE", namespace)
    cli.monkeypatch.setenv("HOME", str(cli.folder))

    def run(check: str, *, code: int = 0, **settings: str) -> Found:
        cli.set(**settings)
        told = json.loads(cli.run("doctor", "--json", code=code).stdout)["findings"]
        [finding] = [one for one in told if one["check"] == check]
        return Found(finding["health"], finding["found"], finding["fix"])

    return run


def test_a_healthy_place(cli: CommandLine, doctor: Doctor) -> None:
    assert doctor("database").health == "ok"
    told = json.loads(cli.run("doctor", "--json").stdout)["findings"]
    # Neither an API nor a reconciler runs in this test.
    assert {f["check"] for f in told if f["health"] != "ok"} == {"reconciler", "api"}
    shown = cli.run("doctor").stdout
    assert "WHAT TO DO" in shown
    assert "as flowtrail" in shown


@pytest.mark.parametrize(
    ("change", "says", "fix"),
    [
        ({"password": "wrong"}, "password authentication failed", "user or password"),
        ({"dbname": "nowhere"}, "does not exist", "create the database"),
        ({"port": str(free_port())}, "refused", "host, port and firewall"),
    ],
    ids=["password", "name", "port"],
)
def test_a_database_that_cannot_be_reached(
    doctor: Doctor, database: str, change: dict[str, str], says: str, fix: str
) -> None:
    dsn = make_conninfo(database, **change)
    finding = doctor("database", code=1, database_url=dsn)
    assert finding.health == "failed"
    assert says in finding.found
    assert fix in (finding.fix or "")
    assert doctor("schema", code=1).health == "skipped"


def test_no_database_at_all(cli: CommandLine, doctor: Doctor) -> None:
    cli.monkeypatch.delenv("FLOWTRAIL_DATABASE_URL")
    finding = doctor("database", code=1)
    assert "flowtrail init" in (finding.fix or "")


def test_tables_that_are_missing(doctor: Doctor, empty_database: str) -> None:
    finding = doctor("schema", code=1, database_url=empty_database)
    assert (finding.health, "flowtrail migrate" in (finding.fix or "")) == ("failed", True)
    assert doctor("grants", code=1).health == "skipped"


def test_a_role_without_grants(doctor: Doctor, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS doctor_nobody")
        owner.execute("CREATE ROLE doctor_nobody LOGIN PASSWORD 'x'")
        owner.execute("GRANT USAGE ON SCHEMA flowtrail TO doctor_nobody")
        owner.execute("GRANT SELECT ON flowtrail.alembic_version TO doctor_nobody")
        try:
            dsn = make_conninfo(database, user="doctor_nobody", password="x")
            finding = doctor("grants", code=1, database_url=dsn)
        finally:
            owner.execute("DROP OWNED BY doctor_nobody")
            owner.execute("DROP ROLE doctor_nobody")
    assert finding.health == "failed"
    assert "it lacks SELECT on" in finding.found
    assert "flowtrail init" in (finding.fix or "")


@pytest.mark.parametrize("event", ["run", "step"])
def test_changes_that_nobody_orders(doctor: Doctor, database: str, event: str) -> None:
    run = ARun()
    with psycopg.connect(database) as connection:
        write(connection, [run.started() if event == "run" else run.attempt_started()])
    assert doctor("live feed").health == "ok"  # An idle feed is ordered once a second.
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE flowtrail.change_pending SET at = at - interval '1 minute'")
    finding = doctor("live feed")
    assert (finding.health, finding.found[:24]) == ("warning", "a change has waited for ")
    assert finding.fix is not None
    assert "API process" in finding.fix


def test_partitions_that_nobody_made(doctor: Doctor, database: str) -> None:
    with psycopg.connect(database) as owner:
        found = owner.execute(
            "SELECT relname FROM pg_class WHERE relname ~ '^payload_[0-9]{4}_[0-9]{2}$'"
        ).fetchall()
        for (name,) in found:
            owner.execute(f"DROP TABLE flowtrail.{name}".encode())
    finding = doctor("partitions")
    assert finding.health == "warning"
    assert "flowtrail migrate" in (finding.fix or "")


@pytest.mark.parametrize(
    ("keys", "health"),
    [(None, "warning"), (RING, "ok"), (new_keyring("k1"), "failed"), (new_keyring("x"), "failed")],
    ids=["none", "right", "wrong", "unknown"],
)
def test_keys_of_encrypted_values(
    cli: CommandLine, doctor: Doctor, database: str, keys: object, health: str
) -> None:
    put(database, [sealed(b"1", None), sealed(b"2", RING)])
    if keys is not None:
        cli.set(encryption_keys=keys.text())  # pyright: ignore[reportAttributeAccessIssue]
    assert doctor("keys", code=1 if health == "failed" else 0).health == health


async def test_dead_entries(cli: CommandLine, doctor: Doctor, store: Database) -> None:
    await a_dead_start(store)
    cli.monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")
    finding = await asyncio.to_thread(doctor, "outbox")
    assert (finding.health, finding.found) == ("warning", "1 entries are dead")


def test_a_temporal_that_is_away_or_another(cli: CommandLine, doctor: Doctor) -> None:
    cli.monkeypatch.setenv("TEMPORAL_NAMESPACE", "nowhere")
    finding = doctor("namespace", code=1)
    assert (finding.health, finding.found) == ("failed", "there is no namespace 'nowhere'")
    cli.monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{free_port()}")
    finding = doctor("temporal", code=1)
    assert finding.health == "failed"
    assert "TEMPORAL_ADDRESS" in (finding.fix or "")


def test_what_waits_in_spill_files(cli: CommandLine, doctor: Doctor) -> None:
    folder = cli.folder / ".local" / "state" / "flowtrail" / "spill"
    folder.mkdir(parents=True)
    (folder / "a.spill").write_bytes(b"1234")
    finding = doctor("spill")
    assert (finding.health, "1, of 4 bytes" in finding.found) == ("warning", True)
