"""The printed grants: each role can do its work with them, and nothing that is not its work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    RunIdentity,
    RunMetadataSet,
    RunStarted,
    StepIdentity,
    TrackerEvent,
)
from tracker.core.fold import fold
from tracker.core.ids import Ref, activity_key
from tracker.core.payloads import Handling, Treatment, store_json
from tracker.core.status import AttemptOutcome, StepKind, StepStatus
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.migrations import grants_sql
from tracker.models.tables import TrackerRow
from tracker.store.database import DatabaseOptions, dedicated
from tracker.store.record import write_batch
from tracker.store.schema import check_schema

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = UUID("01935f00-0000-7000-8000-000000000001")


@dataclass(frozen=True)
class Roles:
    """The three roles of a database, by the names that this test gave them."""

    dsn: str
    writer: str
    api: str
    reader: str

    def run_as(self, role: str, statement: str) -> None:
        """Run a statement as one of them ("writer", "api", "reader"); nothing is kept."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute("SET LOCAL search_path TO flowtrail")
            connection.execute(f'SET LOCAL ROLE "{getattr(self, role)}"'.encode())
            connection.execute(statement.encode())
            connection.rollback()


@pytest.fixture(scope="module")
def roles(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[Roles]:
    """One database for the module: only `test_the_writer_records` keeps anything."""
    database = "test_grants"
    postgres_server.create_database(database, template=migrated_template)
    # Names as cloud providers make them, so that quoting is tried too. Roles are the server's.
    names = [f"{role}-of.{uuid4().hex[:8]}@test's" for role in ("writer", "api", "reader")]
    printed = grants_sql("flowtrail", *names)
    dsn = postgres_server.dsn(database)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(printed.encode())
        connection.execute(printed.encode())
    yield Roles(dsn, *names)
    postgres_server.drop_database(database)
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        for name in names:
            connection.execute(f'DROP ROLE "{name}"'.encode())


def everything_that_a_worker_writes() -> list[TrackerEvent]:
    run = RunIdentity(
        id=KEY,
        namespace="ns",
        run_key=KEY,
        workflow_type="T",
        workflow_id="w",
        task_queue="q",
        first_run_key=KEY,
        started_at=NOW,
        ref=Ref("order", "o-1"),
    )
    step = StepIdentity(
        namespace="ns",
        run_key=KEY,
        kind=StepKind.ACTIVITY,
        step_key=activity_key("1", NOW),
        name="charge",
    )
    attempt = AttemptIdentity(step=step, number=1, started_at=NOW)
    value = store_json(b'{"n":1}', Handling(Treatment.FULL), "input")
    return [
        RunStarted(run=run, history_length=3, metadata={"team": "x"}, input=value),
        RunMetadataSet(run=run, history_length=5, metadata={"region": "eu"}),
        AttemptStarted(attempt=attempt, type="charge_card", input=value),
        AttemptEnded(
            attempt=attempt,
            outcome=AttemptOutcome.COMPLETED,
            finished_at=NOW + timedelta(seconds=1),
            closes_step=StepStatus.COMPLETED,
            output=value,
        ),
    ]


async def test_the_writer_records(roles: Roles) -> None:
    options = DatabaseOptions(roles.dsn)
    events = everything_that_a_worker_writes()
    async with dedicated(options) as connection:
        await connection.execute(f'SET ROLE "{roles.writer}"'.encode())
        await check_schema(connection, options)
        # One by one and then again: inserts, merges, replaced labels.
        for event in [*events, *events]:
            await write_batch(connection, "flowtrail", fold([event]))
        await connection.execute("RESET ROLE")
        cursor = await connection.execute("SELECT count(*) AS found FROM flowtrail.attempt")
        assert await cursor.fetchone() == {"found": 1}


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("writer", "INSERT INTO reconcile_cursor (namespace, closed_through) VALUES ('n', now())"
         " ON CONFLICT (namespace) DO UPDATE SET closed_through = excluded.closed_through"),
        ("writer", "UPDATE outbox SET leased_until = now() WHERE namespace = 'n'"),
        ("writer", "DELETE FROM outbox WHERE namespace = 'n'"),
        ("writer", "SELECT FROM run WHERE namespace = 'n' FOR UPDATE"),
        ("writer", "DELETE FROM change_pending"),
        ("writer", "DELETE FROM change WHERE seq < 0"),
        ("writer", "UPDATE feed SET last_seq = last_seq"),
        ("api", "SELECT version_num FROM alembic_version"),
        ("api", "SELECT FROM run WHERE namespace = 'n' FOR UPDATE"),
        ("api", "SELECT FROM outbox WHERE namespace = 'n' FOR UPDATE SKIP LOCKED"),
        ("api", "SELECT secret_hash, scopes FROM api_key"),
        ("api", "INSERT INTO idempotency (namespace, key, digest, run_id) VALUES"
         " ('n', 'k', '', gen_random_uuid()) ON CONFLICT (namespace, key) DO NOTHING"),
        ("api", "INSERT INTO audit (id, namespace, actor, action, outcome) VALUES"
         " (gen_random_uuid(), 'n', 'ci', 'cancel', 'ok')"),
        ("api", "INSERT INTO workflow (namespace, workflow_type, created_at) VALUES"
         " ('n', 't', now()) ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING"),
        ("api", "UPDATE bulk SET updated_at = now() WHERE namespace = 'n'"),
        ("api", "INSERT INTO bulk_item (bulk_id, run_id) VALUES"
         " (gen_random_uuid(), gen_random_uuid()) ON CONFLICT DO NOTHING"),
        ("api", "UPDATE run SET metadata_patch = '{}' WHERE namespace = 'n'"),
        ("api", "SELECT FROM step_failure"),
        ("api", "DELETE FROM change_pending"),
        ("api", "UPDATE feed SET last_seq = last_seq"),
        ("api", "SELECT FROM step, attempt, payload, run_ref, run_label, workflow_type"),
        ("reader", "SELECT FROM v_runs, v_steps, v_attempts, v_workflows, v_refs"),
        ("reader", "SELECT FROM run, step, attempt, payload, run_ref, run_label, workflow"),
        ("reader", "SELECT actor, action, reason FROM audit"),
    ],
)  # fmt: skip
def test_a_role_can_do_its_work(roles: Roles, role: str, statement: str) -> None:
    roles.run_as(role, statement)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        *((role, f"CREATE TABLE {role} (id int)") for role in ("writer", "api", "reader")),
        *((role, "DROP TABLE payload") for role in ("writer", "api", "reader")),
        *((role, "TRUNCATE run") for role in ("writer", "api", "reader")),
        *((role, "DELETE FROM run") for role in ("writer", "api", "reader")),
        *((role, "DELETE FROM attempt") for role in ("writer", "api", "reader")),
        *((role, "UPDATE payload SET body = '1'") for role in ("writer", "api", "reader")),
        *((role, "UPDATE alembic_version SET version_num = '0'") for role in ("writer", "api")),
        ("writer", "SELECT FROM api_key"),
        ("writer", "SELECT FROM idempotency"),
        ("writer", "INSERT INTO audit DEFAULT VALUES"),
        ("writer", "UPDATE bulk SET status = 'completed'"),
        ("writer", "UPDATE change SET status = 'x'"),
        ("writer", "SELECT FROM ticket"),
        ("api", "UPDATE change SET status = 'x'"),
        ("api", "INSERT INTO api_key DEFAULT VALUES"),
        ("api", "UPDATE api_key SET scopes = ARRAY['admin']"),
        ("api", "UPDATE audit SET actor = 'somebody else'"),
        ("api", "DELETE FROM audit"),
        ("api", "DELETE FROM idempotency"),
        ("api", "DELETE FROM step"),
        ("reader", "SELECT FROM ticket"),
        ("reader", "SELECT FROM api_key"),
        ("reader", "SELECT FROM outbox"),
        ("reader", "SELECT FROM idempotency"),
        ("reader", "UPDATE run SET status = 'completed'"),
        ("reader", "INSERT INTO run_ref DEFAULT VALUES"),
    ],
)
def test_a_role_can_do_nothing_else(roles: Roles, role: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        roles.run_as(role, statement)


def test_every_table_was_thought_of(roles: Roles) -> None:
    granted: set[str] = set()
    with psycopg.connect(roles.dsn) as connection:
        for role in (roles.writer, roles.api, roles.reader):
            rows = connection.execute(
                "SELECT table_name FROM information_schema.role_table_grants"
                " WHERE grantee = %s AND table_schema = 'flowtrail'",
                [role],
            )
            granted |= {row[0] for row in rows}
    views = {"v_attempts", "v_refs", "v_runs", "v_steps", "v_workflows"}
    assert granted == TrackerRow.metadata.tables.keys() | views | {"alembic_version"}


def test_plain_names_are_printed_plainly() -> None:
    printed = grants_sql("tracking", writer="app_writer")
    assert "GRANT USAGE ON SCHEMA tracking TO app_writer;" in printed
    assert "CREATE ROLE flowtrail_reader NOLOGIN" in printed
    assert '"' not in printed
