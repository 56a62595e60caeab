"""`flowtrail payloads`, and the settings that say what is kept of values."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import CommandLine
from tests.store.test_reseal import put, rows, sealed
from tracker.core.payloads import PayloadPolicy, Treatment
from tracker.encryption import Keyring, new_keyring
from tracker.errors import ConfigurationError
from tracker.payload_policy import described_policy
from tracker.temporal.plugin import TrackerPlugin

RING = new_keyring("first")


def test_the_first_key_and_the_next(cli: CommandLine) -> None:
    printed = cli.run("payloads", "new-key", "--id", "a").stdout
    name, _, text = printed.strip().partition("=")
    assert name == "FLOWTRAIL_ENCRYPTION_KEYS"
    assert list(Keyring.from_text(text).keys) == ["a"]
    cli.set(encryption_keys=text)
    told = cli.json("payloads", "new-key", "--id", "b")
    known, used = map(Keyring.from_text, told["steps"])
    assert (known.current, used.current, set(used.keys)) == ("a", "b", {"a", "b"})
    assert "choose another id" in cli.run("payloads", "new-key", "--id", "a", code=2).stderr


def test_a_rotation_is_reported_and_in_the_audit(cli: CommandLine, database: str) -> None:
    put(database, [sealed(b"1", RING), sealed(b"2", None)])
    rotated = RING.with_key("second").using("second")
    cli.set(database_url=database, encryption_keys=rotated.text())
    told = cli.json("payloads", "rotate")
    assert (told["key_id"], told["resealed"], told["clear"]) == ("second", 1, 1)
    assert "encrypted with it now  1" in cli.run("payloads", "rotate", "--clear").stdout
    assert {row["key_id"] for row in rows(database).values()} == {"second"}
    with psycopg.connect(database) as connection:
        query = "SELECT details->>'resealed' FROM flowtrail.audit ORDER BY at"
        assert connection.execute(query).fetchall() == [("1",), ("1",)]


def test_a_lost_key_is_told(cli: CommandLine, database: str) -> None:
    put(database, [sealed(b"1", new_keyring("lost"))])
    cli.set(database_url=database, encryption_keys=RING.text())
    answer = cli.run("payloads", "rotate", code=1).stderr
    assert "1 with 'lost'" in answer
    assert "add their keys" in answer


def test_without_keys_nothing_can_be_rotated(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    assert "payloads new-key" in cli.run("payloads", "rotate", code=2).stderr


# Settings


POLICY = "tests.cli.test_payloads:OF_A_TEAM"
OF_A_TEAM = PayloadPolicy(Treatment.DIGEST)


def test_a_policy_is_named_by_its_module() -> None:
    assert described_policy(path=POLICY) is OF_A_TEAM
    described = described_policy(path=POLICY, keys=RING.text())
    assert (described.default, described.sealer) == (Treatment.DIGEST, RING)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"path": POLICY, "default": Treatment.NONE}, "both set"),
        ({"path": "nowhere:policy"}, "cannot load the PayloadPolicy 'nowhere:policy'"),
        ({"path": "tests.cli.test_payloads:RING"}, "to be a PayloadPolicy, got Keyring"),
        ({"path": "policy"}, "module:attribute"),
        ({"keys": "x"}, "id:base64"),
    ],
)
def test_wrong_settings_are_told(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        described_policy(**given)  # pyright: ignore[reportArgumentType]


def test_two_rings_are_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.OF_A_TEAM", PayloadPolicy(sealer=RING))
    assert described_policy(path=POLICY, keys=RING.text()).sealer == RING
    with pytest.raises(ConfigurationError, match="other encryption keys"):
        described_policy(path=POLICY, keys=new_keyring("other").text())


def test_the_plugin_reads_the_same_settings(tmp_path: Path) -> None:
    environment = {
        "FLOWTRAIL_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "FLOWTRAIL_SPILL_DIR": str(tmp_path),
    }
    TrackerPlugin.from_env(environment | {"FLOWTRAIL_PAYLOAD_POLICY": POLICY})
    for wrong, says in (
        ({"FLOWTRAIL_PAYLOAD_DEFAULT": "some"}, "expected one of full"),
        ({"FLOWTRAIL_ENCRYPTION_KEYS": "x"}, "id:base64"),
        ({"FLOWTRAIL_PAYLOAD_POLICY": "nowhere:x"}, "cannot load"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            TrackerPlugin.from_env(environment | wrong)
