"""The grants of the three roles, as SQL for people to read and run.

writer: recorders, reconciler, relay. api: the facade, and what carries bulk actions out. reader:
people and their dashboards. None of them owns a table; whoever migrates does, and alone may change
tables, purge and make keys.
"""

from __future__ import annotations

import re

from tracker.store.database import DEFAULT_SCHEMA

VIEWS = ("v_attempts", "v_refs", "v_runs", "v_steps", "v_workflows")

WRITER = {
    "SELECT": ("alembic_version", "compatibility", "payload_horizon"),
    "SELECT, INSERT": ("payload", "run_ref", "workflow"),
    "SELECT, INSERT, UPDATE": (
        "attempt",
        "recorder",
        "reconcile_cursor",
        "run",
        "step",
        "step_failure",
        "workflow_type",
    ),
    # A reconciler orders the live feed where no API does.
    "SELECT, UPDATE": ("feed",),
    "SELECT, INSERT, DELETE": ("change", "change_pending"),
    "SELECT, INSERT, UPDATE, DELETE": ("outbox", "run_label"),
}
API = {
    "SELECT": (
        *VIEWS,
        "alembic_version",
        "api_key",
        "compatibility",
        "payload_horizon",
        "recorder",
        "reconcile_cursor",
    ),
    # Never UPDATE or DELETE: nobody but the owner rewrites what was done and by whom.
    "SELECT, INSERT": ("audit", "idempotency", "payload", "run_ref", "workflow"),
    "SELECT, INSERT, UPDATE": (
        "attempt",
        "bulk",
        "bulk_item",
        "run",
        "step",
        "step_failure",
        "workflow_type",
    ),
    "SELECT, UPDATE": ("feed",),
    "SELECT, INSERT, DELETE": ("change", "ticket"),
    "SELECT, INSERT, UPDATE, DELETE": ("change_pending", "outbox", "run_label"),
}
# Not for readers: api_key and idempotency are secrets of callers, outbox has inputs in clear
# whatever the payload policy says.
READER = {
    "SELECT": (
        *VIEWS,
        "alembic_version",
        "attempt",
        "audit",
        "bulk",
        "bulk_item",
        "change",
        "compatibility",
        "feed",
        "legal_hold",
        "payload",
        "payload_horizon",
        "recorder",
        "reconcile_cursor",
        "run",
        "run_label",
        "run_ref",
        "step",
        "step_failure",
        "workflow",
        "workflow_type",
    ),
}

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")


def grants_sql(
    schema: str = DEFAULT_SCHEMA,
    writer: str = "flowtrail_writer",
    api: str = "flowtrail_api",
    reader: str = "flowtrail_reader",
) -> str:
    """SQL that makes the roles, where missing, and gives each what it needs; safe to repeat.

    New roles cannot log in: grant them to the roles that do (`GRANT flowtrail_writer TO …`).
    """
    granted = ((writer, WRITER), (api, API), (reader, READER))
    lines = [_create_role(role) for role, _ in granted]
    for role, privileges in granted:
        lines.append(f"\nGRANT USAGE ON SCHEMA {_name(schema)} TO {_name(role)};")
        lines += [
            f"GRANT {verbs} ON {_names(schema, tables)} TO {_name(role)};"
            for verbs, tables in privileges.items()
        ]
    return "\n".join(lines) + "\n"


def _create_role(role: str) -> str:
    literal = role.replace("'", "''")
    return (
        f"DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{literal}')\n"
        f"THEN CREATE ROLE {_name(role)} NOLOGIN; END IF; END $do$;"
    )


def _names(schema: str, tables: tuple[str, ...]) -> str:
    return ", ".join(f"{_name(schema)}.{table}" for table in tables)


def _name(identifier: str) -> str:
    if _PLAIN.match(identifier):
        return identifier
    return '"' + identifier.replace('"', '""') + '"'
