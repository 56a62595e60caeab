"""Every CHECK of the schema bites: for each there is a row that is fine but for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tracker.embedded.postgres import EmbeddedPostgres

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ID = UUID("01935f00-0000-7000-8000-000000000001")

FINE: dict[str, dict[str, Any]] = {
    "workflow": {"namespace": "ns", "workflow_type": "T", "created_at": NOW},
    "run": {
        "id": ID,
        "namespace": "ns",
        "engine": "temporal",
        "workflow_type": "T",
        "workflow_id": "w",
        "status": "running",
        "status_version": 1,
        "ordered_at": NOW,
        "started_at": NOW,
    },
    "run_ref": {
        "run_id": ID,
        "namespace": "ns",
        "ref_type": "order",
        "ref_id": "o/1",
        "ordered_at": NOW,
    },
    "change_pending": {"namespace": "ns", "kind": "run", "status": "running", "data": Jsonb({})},
    "change": {
        "seq": 1,
        "pending_id": 1,
        "namespace": "ns",
        "kind": "run",
        "status": "running",
        "at": NOW,
        "data": Jsonb({}),
    },
    "feed": {"id": 1, "last_seq": 1, "kept_after": 0},
    "step": {
        "id": ID,
        "namespace": "ns",
        "run_key": ID,
        "kind": "activity",
        "step_key": "1@1",
        "name": "charge",
        "status": "scheduled",
        "status_version": 1,
    },
    "attempt": {
        "id": ID,
        "step_id": ID,
        "number": 1,
        "outcome": "running",
        "outcome_version": 0,
        "started_at": NOW,
    },
    "payload": {
        "id": ID,
        "treatment": "full",
        "encoding": "json/plain",
        "size": 1,
        "digest": b"\x00",
        "body": Jsonb(1),
    },
    "outbox": {
        "id": ID,
        "kind": "start",
        "namespace": "ns",
        "run_id": ID,
        "request": b"\x00",
        "on_conflict": "reject",
        "leased_until": NOW,
    },
    "api_key": {"id": ID, "name": "ci", "secret_hash": b"\x00", "scopes": ["read", "start"]},
    "bulk": {
        "id": ID,
        "namespace": "ns",
        "action": "rerun",
        "filter": Jsonb({}),
        "actor": "ops",
        "status": "gathering",
        "rate": 20,
    },
    "bulk_item": {"bulk_id": ID, "run_id": ID},
    "step_failure": {
        "step_id": ID,
        "namespace": "ns",
        "run_key": ID,
        "kind": "activity",
        "name": "charge",
        "status": "failed",
        "error_type": "Busy",
        "first_at": NOW,
        "seen_at": NOW,
    },
}
"""A row of each table that the schema accepts."""

ENDED = {"status": "completed", "finished_at": NOW}

VIOLATIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("workflow", "workflow_ref_check", {"ref_type": "order"}),
    ("workflow", "workflow_ref_check", {"ref_id": "1"}),
    ("run", "run_engine_check", {"engine": "other"}),
    ("run", "run_status_check", {"status": "paused", "finished_at": NOW}),
    ("run", "run_finished_check", {"finished_at": NOW}),
    ("run", "run_finished_check", {"status": "accepted", "finished_at": NOW}),
    *(
        ("run", "run_finished_check", {"status": status})
        for status in (
            "rejected",
            "completed",
            "failed",
            "canceled",
            "terminated",
            "timed_out",
            "continued_as_new",
            "lost",
        )
    ),
    ("run", "run_started_check", {"started_at": None}),
    ("run", "run_started_check", ENDED | {"started_at": None}),
    ("run", "run_output_check", {"output_id": ID}),
    ("run", "run_output_check", {"status": "failed", "finished_at": NOW, "output_id": ID}),
    ("run", "run_ref_check", {"ref_type": "order"}),
    ("run", "run_metadata_check", {"metadata": Jsonb(["list"])}),
    ("run", "run_metadata_check", {"metadata": Jsonb(None)}),
    ("run", "run_waiting_on_check", {"waiting_on": Jsonb([])}),
    ("run", "run_waiting_on_check", {"waiting_on": Jsonb({}), "waiting_on_at": NOW}),
    *(
        ("run", "run_erased_check", ENDED | {"erased_at": NOW} | left)
        for left in (
            {"input_id": ID},
            {"output_id": ID},
            {"metadata": Jsonb({})},
            {"error_message": "why"},
            {"error_stack": "where"},
        )
    ),
    ("run", "run_metadata_patch_check", {"metadata_patch": Jsonb([])}),
    (
        "run",
        "run_metadata_patch_check",
        ENDED | {"erased_at": NOW, "metadata_patch": Jsonb({})},
    ),
    ("step_failure", "step_failure_kind_check", {"kind": "span"}),
    ("step_failure", "step_failure_status_check", {"status": "running"}),
    ("step_failure", "step_failure_seen_check", {"first_at": NOW + timedelta(days=1)}),
    ("bulk", "bulk_action_check", {"action": "dance"}),
    ("bulk", "bulk_status_check", {"status": "paused"}),
    ("bulk", "bulk_finished_check", {"status": "completed", "total": 1}),
    ("bulk", "bulk_finished_check", {"finished_at": NOW}),
    ("bulk", "bulk_total_check", {"status": "acting"}),
    ("bulk", "bulk_rate_check", {"rate": 0}),
    ("bulk_item", "bulk_item_status_check", {"status": "tried", "finished_at": NOW}),
    ("bulk_item", "bulk_item_finished_check", {"status": "done"}),
    ("bulk_item", "bulk_item_error_check", {"status": "failed", "finished_at": NOW}),
    ("bulk_item", "bulk_item_error_check", {"error_code": "conflict"}),
    ("run_ref", "run_ref_length_check", {"ref_type": ""}),
    ("run_ref", "run_ref_length_check", {"ref_type": "t" * 101}),
    ("run_ref", "run_ref_length_check", {"ref_type": "a/b"}),
    ("run_ref", "run_ref_length_check", {"ref_id": ""}),
    ("run_ref", "run_ref_length_check", {"ref_id": "i" * 201}),
    ("step", "step_kind_check", {"kind": "span"}),
    ("step", "step_status_check", {"status": "running", "finished_at": NOW}),
    ("step", "step_finished_check", {"finished_at": NOW}),
    ("step", "step_finished_check", {"status": "started", "finished_at": NOW}),
    *(
        ("step", "step_finished_check", {"status": status})
        for status in ("completed", "failed", "canceled", "timed_out")
    ),
    ("step", "step_retry_check", {"status": "started", "next_retry_at": NOW}),
    ("step", "step_retry_check", ENDED | {"next_retry_at": NOW}),
    ("step", "step_output_check", {"output_id": ID}),
    ("step", "step_output_check", {"status": "failed", "finished_at": NOW, "output_id": ID}),
    ("attempt", "attempt_number_check", {"number": 0}),
    ("attempt", "attempt_outcome_check", {"outcome": "scheduled", "finished_at": NOW}),
    ("attempt", "attempt_finished_check", {"finished_at": NOW}),
    *(
        ("attempt", "attempt_finished_check", {"outcome": outcome})
        for outcome in ("completed", "failed", "canceled", "timed_out", "lost")
    ),
    ("attempt", "attempt_retry_check", {"next_retry_at": NOW}),
    *(
        (
            "attempt",
            "attempt_retry_check",
            {"outcome": outcome, "finished_at": NOW, "next_retry_at": NOW},
        )
        for outcome in ("completed", "canceled", "lost")
    ),
    ("payload", "payload_treatment_check", {"treatment": "none"}),
    ("payload", "payload_kept_check", {"treatment": "digest"}),
    ("payload", "payload_kept_check", {"treatment": "too_large", "body": None, "data": b"x"}),
    ("step_failure", "step_failure_run_check", {"run_id": ID}),
    ("payload", "payload_key_check", {"key_id": "k"}),
    ("payload", "payload_key_check", {"key_id": "k", "body": None}),
    ("outbox", "outbox_kind_check", {"kind": "query", "on_conflict": None}),
    ("outbox", "outbox_start_check", {"on_conflict": None}),
    ("outbox", "outbox_start_check", {"kind": "signal"}),
    ("outbox", "outbox_dead_check", {"dead_at": NOW}),
    ("outbox", "outbox_on_conflict_check", {"on_conflict": "replace"}),
    ("change_pending", "change_pending_kind_check", {"kind": "attempt"}),
    ("change", "change_kind_check", {"kind": "attempt"}),
    ("change", "change_ref_check", {"ref_type": "order"}),
    ("feed", "feed_one_check", {"id": 2}),
    ("feed", "feed_kept_check", {"kept_after": 2}),
    ("feed", "feed_kept_check", {"kept_after": -1}),
    ("api_key", "api_key_scopes_check", {"scopes": []}),
    ("api_key", "api_key_scopes_check", {"scopes": ["read", "root"]}),
    ("api_key", "api_key_ref_types_check", {"ref_types": []}),
    ("api_key", "api_key_workflow_types_check", {"workflow_types": ["w"] * 21}),
    ("api_key", "api_key_rate_check", {"rate": 0}),
    ("api_key", "api_key_rate_check", {"rate": 100_001}),
    ("api_key", "api_key_previous_check", {"previous_hash": b"\x01"}),
    ("api_key", "api_key_previous_check", {"previous_until": NOW}),
]


@pytest.fixture(scope="module")
def connection(
    postgres_server: EmbeddedPostgres, migrated_template: str
) -> Iterator[psycopg.Connection[Any]]:
    """One connection for the module: every row is rolled back."""
    name = "test_checks"
    postgres_server.create_database(name, template=migrated_template)
    try:
        with psycopg.connect(postgres_server.dsn(name), autocommit=True) as connection:
            connection.execute("SET search_path TO flowtrail")
            connection.execute("DELETE FROM feed")
            yield connection
    finally:
        postgres_server.drop_database(name)


def insert(connection: psycopg.Connection[Any], table: str, row: dict[str, Any]) -> None:
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    with connection.transaction(force_rollback=True):
        connection.execute(statement, list(row.values()))


@pytest.mark.parametrize("table", FINE)
def test_a_fine_row_is_accepted(connection: psycopg.Connection[Any], table: str) -> None:
    insert(connection, table, FINE[table])


@pytest.mark.parametrize(
    ("table", "check", "wrong"),
    VIOLATIONS,
    ids=[f"{check}: {', '.join(map(str, wrong))}" for _, check, wrong in VIOLATIONS],
)
def test_a_wrong_row_is_refused(
    connection: psycopg.Connection[Any], table: str, check: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        insert(connection, table, FINE[table] | wrong)
    assert refused.value.diag.constraint_name == check


def test_every_check_has_a_row_that_it_refuses(connection: psycopg.Connection[Any]) -> None:
    stored = connection.execute(
        "SELECT c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid"
        " WHERE c.contype = 'c' AND t.relnamespace = 'flowtrail'::regnamespace"
        " AND NOT t.relispartition"
    )
    assert {row[0] for row in stored} == {check for _, check, _ in VIOLATIONS}


def test_workflows_without_a_ref_are_one_per_type(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO workflow (namespace, workflow_type, created_at) VALUES ('n', 'T', now())"
        )
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            insert(connection, "workflow", FINE["workflow"] | {"namespace": "n"})
