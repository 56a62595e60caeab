"""Migrating: from nothing, again, twice at once, beside other people's tables; and what the schema
check says when it was not done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlmodel import SQLModel

from tracker.core.merge import RECORDED, Table
from tracker.errors import ConfigurationError, SchemaMismatch
from tracker.migrations import HEAD, check, current_revision, migrate
from tracker.migrations.drift import differences
from tracker.migrations.upgrade import script_config, upgrade
from tracker.models.tables import TrackerRow
from tracker.store import schema
from tracker.store.database import DatabaseOptions, dedicated
from tracker.store.schema import REQUIRED_REVISION, REVISIONS, check_schema

TABLES = set(TrackerRow.metadata.tables)


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def names(dsn: str, query: str, *values: Any) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute(query.encode(), values)}


def tables_in(dsn: str, schema: str) -> set[str]:
    return names(
        dsn,
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
        " AND relkind IN ('r', 'p') AND NOT relispartition",
        schema,
    )


@pytest.fixture
def lowly_role(empty_database: str) -> Iterator[str]:
    """DSN of a role that may log in to the database and own what others give it, no more."""
    role, password = f"lowly_{uuid4().hex[:8]}", uuid4().hex
    run(empty_database, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    yield make_conninfo(empty_database, user=role, password=password)
    run(empty_database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_from_empty(empty_database: str) -> None:
    assert current_revision(empty_database) is None
    assert migrate(empty_database) == list(REVISIONS)
    assert current_revision(empty_database) == HEAD
    assert tables_in(empty_database, "flowtrail") == TABLES | {"alembic_version"}
    check(empty_database)


def test_rows_of_the_first_revision_survive_the_way_to_the_newest(empty_database: str) -> None:
    assert upgrade(DatabaseOptions(empty_database), to=REVISIONS[0]) == [REVISIONS[0]]
    run(
        empty_database,
        "INSERT INTO flowtrail.watch_cursor VALUES ('default', '2026-01-02T03:04:05Z')",
        "INSERT INTO flowtrail.run (id, namespace, engine, workflow_type, workflow_id, ordered_at,"
        " status, status_version, accepted_at)"
        " VALUES (gen_random_uuid(), 'default', 'temporal', 'Order', 'o-1', now(), 'accepted',"
        " 0, now())",
        "INSERT INTO flowtrail.outbox"
        " (id, namespace, kind, run_id, request, on_conflict, leased_until)"
        " SELECT id, namespace, 'start', id, '', 'reject', now() FROM flowtrail.run",
    )
    assert migrate(empty_database) == list(REVISIONS[1:])
    assert names(empty_database, "SELECT workflow_id FROM flowtrail.v_runs") == {"o-1"}
    assert names(empty_database, "SELECT failures FROM flowtrail.outbox") == {0}
    [cursor] = names(empty_database, "SELECT closed_through FROM flowtrail.reconcile_cursor")
    assert cursor == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_second_time_there_is_nothing_to_do(database: str) -> None:
    before = tables_in(database, "flowtrail")
    assert migrate(database) == []
    assert tables_in(database, "flowtrail") == before


def test_two_at_once(empty_database: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        applied = list(pool.map(migrate, [empty_database] * 3))
    assert sorted(applied) == [[], [], list(REVISIONS)]
    check(empty_database)


def test_a_keyword_dsn_works_like_a_url(empty_database: str) -> None:
    keywords = make_conninfo(empty_database, application_name="mine")
    assert not keywords.startswith("postgresql:")
    assert migrate(keywords) == list(REVISIONS)
    check(keywords)


def test_schemas_of_any_name_live_side_by_side(database: str) -> None:
    assert migrate(database, "audit_trail") == list(REVISIONS)
    assert tables_in(database, "audit_trail") == tables_in(database, "flowtrail")
    assert current_revision(database, "audit_trail") == HEAD
    assert differences(database, "audit_trail") == []


@pytest.mark.parametrize("name", ["", "Flow", "a-b", "a b", 'a"; DROP SCHEMA public; --'])
def test_an_unfit_schema_name_is_refused(empty_database: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match="lower-case identifier"):
        migrate(empty_database, name)


def test_a_users_own_alembic_and_tables_are_left_alone(empty_database: str) -> None:
    run(
        empty_database,
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('theirs')",
        "CREATE TABLE run (mine int)",
    )
    migrate(empty_database)
    assert names(empty_database, "SELECT version_num FROM public.alembic_version") == {"theirs"}
    assert tables_in(empty_database, "public") == {"alembic_version", "run"}


def test_a_schema_with_tables_of_our_names_is_refused_and_left_as_it_was(
    empty_database: str,
) -> None:
    run(empty_database, "CREATE TABLE public.step (mine int)")
    with pytest.raises(ConfigurationError, match="choose another schema") as refused:
        migrate(empty_database, "public")
    assert "step" in refused.value.details["cause"]
    assert tables_in(empty_database, "public") - {"alembic_version"} == {"step"}
    assert current_revision(empty_database, "public") is None


def test_a_role_without_the_right_to_create_schemas_migrates_one_that_it_was_given(
    empty_database: str, lowly_role: str
) -> None:
    with pytest.raises(ConfigurationError, match="lacks a grant"):
        migrate(lowly_role)
    role = conninfo_to_dict(lowly_role)["user"]
    run(empty_database, f"CREATE SCHEMA flowtrail AUTHORIZATION {role}")
    assert migrate(lowly_role) == list(REVISIONS)


async def test_a_missing_schema_is_told(empty_database: str) -> None:
    told = await complaints(empty_database)
    assert "no tracker tables in schema 'flowtrail'" in told
    assert "run `flowtrail migrate`" in told


async def test_an_older_schema_is_told(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "REVISIONS", ("0000", *REVISIONS))
    run(database, "UPDATE flowtrail.alembic_version SET version_num = '0000'")
    told = await complaints(database)
    assert f"is at revision '0000', this version needs '{HEAD}'" in told
    assert "run `flowtrail migrate`" in told


async def test_a_newer_schema_is_told_and_not_touched(database: str) -> None:
    run(
        database,
        "UPDATE flowtrail.alembic_version SET version_num = '9999'",
        "UPDATE flowtrail.compatibility SET oldest_revision = '9998'",
    )
    told = await complaints(database)
    assert "'9999', which this version does not know" in told
    assert "update flowtrail" in told
    with pytest.raises(SchemaMismatch, match="'9999'"):
        migrate(database)
    assert current_revision(database) == "9999"


async def test_a_newer_schema_may_let_this_version_go_on(database: str) -> None:
    run(database, "UPDATE flowtrail.alembic_version SET version_num = '9999'")
    async with dedicated(DatabaseOptions(database)) as connection:
        await check_schema(connection, DatabaseOptions(database))
    with pytest.raises(SchemaMismatch, match="'9999'"):
        migrate(database)


async def test_a_migrated_schema_passes_the_check_of_its_name_only(database: str) -> None:
    check(database)
    async with dedicated(DatabaseOptions(database)) as connection:
        await check_schema(connection, DatabaseOptions(database))
        with pytest.raises(SchemaMismatch, match="'elsewhere'"):
            await check_schema(connection, DatabaseOptions(database, "elsewhere"))


async def complaints(dsn: str) -> str:
    """What the migrations' and the recorder's check say; both must say the same."""
    with pytest.raises(SchemaMismatch) as blocking_check:
        check(dsn)
    async with dedicated(DatabaseOptions(dsn)) as connection:
        with pytest.raises(SchemaMismatch) as light_check:
            await check_schema(connection, DatabaseOptions(dsn))
    assert light_check.value.message == blocking_check.value.message
    assert light_check.value.details["required"] == HEAD
    return light_check.value.message


def test_the_light_check_knows_the_revisions_of_the_scripts() -> None:
    scripts = ScriptDirectory.from_config(script_config())
    newest_first = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(newest_first)) == REVISIONS
    assert scripts.get_heads() == [REQUIRED_REVISION] == [HEAD]


def test_migrations_only_go_forward() -> None:
    for script in ScriptDirectory.from_config(script_config()).walk_revisions():
        assert not hasattr(script.module, "downgrade")


def test_the_light_check_loads_no_migration_tool() -> None:
    program = (
        "import sys, tracker.store.schema\n"
        "assert not {'alembic', 'sqlalchemy', 'sqlmodel'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.drift
def test_migrations_and_table_models_agree(database: str) -> None:
    assert differences(database) == []
    assert tables_in(database, "flowtrail_drift") == set()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("ALTER TABLE run DROP CONSTRAINT run_status_check", "constraint run_status_check of run"),
        ("DROP INDEX run_parent_idx", "index run_parent_idx of run"),
        (
            "DROP INDEX run_finished_idx; CREATE INDEX run_finished_idx"
            " ON run (namespace, finished_at, id) WHERE finished_at IS NULL",
            "index run_finished_idx of run",
        ),
        (
            "ALTER TABLE workflow DROP CONSTRAINT workflow_identity_key, ADD CONSTRAINT"
            " workflow_identity_key UNIQUE (namespace, workflow_type, ref_type, ref_id)",
            "constraint workflow_identity_key of workflow",
        ),
        ("ALTER TABLE step ALTER name DROP NOT NULL", "column step.name"),
        ("ALTER TABLE outbox ALTER tries TYPE bigint", "column outbox.tries"),
        ("ALTER TABLE outbox ALTER tries SET DEFAULT 1", "column outbox.tries"),
        ("ALTER TABLE audit ADD extra text", "column audit.extra"),
        ("ALTER TABLE audit DROP reason", "column audit.reason"),
        ("COMMENT ON TABLE run_ref IS 'other'", "table run_ref"),
        ("CREATE TABLE extra (id int)", "table extra"),
        ("DROP TABLE reconcile_cursor", "table reconcile_cursor"),
    ],
)
def test_drift_is_found(database: str, change: str, found: str) -> None:
    run(database, f"SET search_path TO flowtrail; {change}")
    assert found in {line.partition(": ")[0] for line in differences(database)}


@pytest.mark.parametrize("table", RECORDED, ids=lambda table: table.name)
def test_merge_rules_name_the_columns_and_types_of_the_table(database: str, table: Table) -> None:
    with psycopg.connect(database) as connection:
        stored = dict(
            connection.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0",
                [f"flowtrail.{table.name}"],
            ).fetchall()
        )
    spelled = {"timestamp with time zone": "timestamptz"}
    stored = {name: spelled.get(type_, type_) for name, type_ in stored.items()}
    merged = {column.name: column.type for column in table.columns}
    assert merged.items() <= stored.items()


def test_users_never_get_our_tables_from_their_own_metadata() -> None:
    assert TABLES.isdisjoint(SQLModel.metadata.tables)
    assert "run" in TABLES
