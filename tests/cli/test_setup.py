"""`migrate`, `init` and `keys` on a real database."""

from __future__ import annotations

import re
import stat
from getpass import getuser
from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import CommandLine
from tracker.cli.env_file import read_env, write_env
from tracker.errors import ConfigurationError
from tracker.migrations import HEAD, current_revision

APPLIED = re.compile(rf"applied [\d, ]*{HEAD}\b")


def test_migrate_tells_what_it_did(cli: CommandLine, empty_database: str) -> None:
    cli.set(database_url=empty_database)
    assert "run `flowtrail migrate`" in cli.run("migrate", "--check", code=1).stderr
    assert APPLIED.search(cli.run("migrate").stdout)
    assert "up to date" in cli.run("migrate").stdout
    assert cli.json("migrate", "--check") == {
        "schema": "flowtrail",
        "revision": HEAD,
        "applied": [],
    }


def test_a_command_without_a_database_says_which_setting(cli: CommandLine) -> None:
    for command in (["migrate"], ["keys", "list"], ["refs", "preview", "--rules", "r.toml"]):
        (cli.folder / "r.toml").write_text("[[refs]]\ninput = 'a'\nref_type = 'b'")
        assert "FLOWTRAIL_DATABASE_URL" in cli.run(*command, code=2).stderr


# Keys


def test_a_key_is_made_listed_and_revoked(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    assert "keys create" in cli.run("keys", "list").stdout
    secret = cli.run(
        *("keys", "create", "ci", "--scope", "start", "--scope", "read", "--days", "30")
    ).stdout
    assert re.fullmatch(r"ft_[A-Za-z0-9_-]{43}\n", secret)
    (key,) = cli.json("keys", "list")["keys"]
    assert (key["name"], key["scopes"], key["revoked_at"]) == ("ci", ["read", "start"], None)
    assert key["expires_at"] is not None
    assert secret.strip() not in str(key)
    cli.run("keys", "revoke", "ci")
    cli.run("keys", "revoke", "ci")
    assert cli.json("keys", "list")["keys"][0]["revoked_at"] is not None


def test_wrong_keys_are_told(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    cli.run("keys", "create", "ci")
    assert "choose another name" in cli.run("keys", "create", "ci", code=1).stderr
    assert "read, start" in cli.run("keys", "create", "x", "--scope", "root", code=2).stderr
    assert "keys list" in cli.run("keys", "revoke", "nobody", code=1).stderr


def test_a_restricted_key_shows_what_it_is_kept_to(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    only = ("--ref-type", "order", "--workflow-type", "Order", "--workflow-type", "Refund")
    cli.run("keys", "create", "shop", *only, "--rate", "2.5")
    (key,) = cli.json("keys", "list")["keys"]
    assert key["ref_types"] == ["order"]
    assert key["workflow_types"] == ["Order", "Refund"]
    assert key["rate"] == 2.5
    assert "refs: order" in " ".join(cli.run("keys", "list").stdout.split())
    assert "100000 requests" in cli.run("keys", "create", "x", "--rate", "0", code=2).stderr
    many = [part for n in range(21) for part in ("--ref-type", f"t{n}")]
    assert "at most 20 ref_types" in cli.run("keys", "create", "x", *many, code=2).stderr


def test_a_rotated_key_keeps_its_name_and_changes_its_secret(
    cli: CommandLine, database: str
) -> None:
    cli.set(database_url=database)
    first = cli.run("keys", "create", "ci", "--scope", "start").stdout
    second = cli.run("keys", "rotate", "ci").stdout
    assert re.fullmatch(r"ft_[A-Za-z0-9_-]{43}\n", second)
    assert second != first
    (key,) = cli.json("keys", "list")["keys"]
    assert (key["name"], key["scopes"]) == ("ci", ["start"])
    assert key["previous_until"] is not None
    cli.run("keys", "rotate", "ci", "--grace", "0")
    assert cli.json("keys", "list")["keys"][0]["previous_until"] is None

    assert "keys list" in cli.run("keys", "rotate", "nobody", code=1).stderr
    assert "0-30 days" in cli.run("keys", "rotate", "ci", "--grace", "1000", code=2).stderr
    cli.run("keys", "revoke", "ci")
    assert "is revoked" in cli.run("keys", "rotate", "ci", code=1).stderr


def test_what_is_done_to_keys_is_in_the_audit(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    for words in (("create", "ci"), ("rotate", "ci"), ("revoke", "ci")):
        cli.run("keys", *words)
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT action, actor, details->>'name' FROM flowtrail.audit ORDER BY at"
        ).fetchall()
    me = f"cli:{getuser()}"
    assert found == [(f"key.{done}", me, "ci") for done in ("create", "rotate", "revoke")]


# The wizard


def test_init_sets_everything_up_and_can_be_repeated(cli: CommandLine, empty_database: str) -> None:
    (cli.folder / ".env").write_text("# mine\nOTHER='kept as it is'\n")
    first = cli.run("init", "--yes", "--database-url", empty_database).stdout
    assert APPLIED.search(first)
    assert "GRANT" in first
    assert "Next: " in first
    env = cli.folder / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert env.read_text().startswith("# mine\nOTHER='kept as it is'\n")
    settings = read_env(env)
    assert settings["FLOWTRAIL_DATABASE_URL"] == empty_database
    assert settings["FLOWTRAIL_API_KEY"] not in first

    before = env.read_text()
    again = cli.run("init", "--yes").stdout
    assert "up to date" in again
    assert "is valid" in again
    assert env.read_text() == before
    assert [key["name"] for key in cli.json("keys", "list")["keys"]] == ["init"]


def test_init_makes_no_second_key_for_somebody_elses_tracker(
    cli: CommandLine, database: str
) -> None:
    cli.set(database_url=database)
    cli.run("keys", "create", "first")
    assert "there are some" in cli.run("init", "--yes").stdout
    assert "FLOWTRAIL_API_KEY" not in read_env(cli.folder / ".env")


def test_init_makes_a_new_key_when_all_are_revoked(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    cli.run("init", "--yes")
    cli.run("keys", "revoke", "init")
    cli.run("init", "--yes")
    names = [key["name"] for key in cli.json("keys", "list")["keys"]]
    assert names == ["init", "init-2"]


def test_init_asks_and_creates_the_database(cli: CommandLine, empty_database: str) -> None:
    new = f"{empty_database.rpartition('/')[2].partition('?')[0]}_new"
    dsn = re.sub(r"/test_\w+", f"/{new}", empty_database)
    cli.run("init", code=1, answers=[dsn, "n"])
    shown = cli.run("init", answers=[dsn, "y"]).stdout
    assert f"database {new}: created" in shown
    assert current_revision(dsn) == HEAD


def test_init_without_answers_names_the_option(cli: CommandLine) -> None:
    assert "--database-url" in cli.run("init", "--yes", code=2).stderr
    assert "postgresql://" in cli.run("init", "--yes", "--database-url", "a b c", code=2).stderr


@pytest.mark.parametrize("value", ["a", "with space", "qu'ote", "da$h", "#hash", 'dou"ble', "\\"])
def test_env_values_come_back_as_they_were(tmp_path: Path, value: str) -> None:
    path = tmp_path / ".env"
    path.write_text("export A = old # c\nB=2\nA=newer\n")
    assert write_env(path, {"A": value}) == ["A"]
    assert write_env(path, {"A": value}) == []
    assert read_env(path) == {"A": value, "B": "2"}
    assert path.read_text().startswith("export A = old # c\nB=2\n")


def test_an_env_value_that_cannot_be_kept_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("B=2\n")
    with pytest.raises(ConfigurationError, match="set it by hand"):
        write_env(path, {"A": "${B}"})
    assert path.read_text() == "B=2\n"
