"""Differences between the migrated schema and the table models, in either direction.

Alembic's `compare_metadata` misses a changed index predicate and a missing CHECK. Here Postgres
itself tells both: the models are built into a scratch schema, and the two catalogs are compared by
the definitions that the server prints.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.schema import CreateSchema

from tracker.migrations.upgrade import engine_for
from tracker.models.tables import TrackerRow
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions

SCRATCH_SCHEMA = "flowtrail_drift"


def differences(dsn: str, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """Compare a migrated schema with `tracker.models.tables`. Leaves no trace.

    Args:
        dsn: Of a role that may create schemas.
        schema: The migrated schema. Partitions, views and the version table are not compared.

    Returns:
        One line per difference; empty if there is none.
    """
    with engine_for(DatabaseOptions(dsn, schema)).connect() as connection:
        migrated = _catalog(connection, schema)
        connection.execute(CreateSchema(SCRATCH_SCHEMA))
        _look_at(connection, SCRATCH_SCHEMA)
        TrackerRow.metadata.create_all(connection)
        modelled = _catalog(connection, SCRATCH_SCHEMA)
        connection.rollback()
    return [
        f"{thing}: migrations have {migrated.get(thing)}, models have {modelled.get(thing)}"
        for thing in sorted(migrated.keys() | modelled.keys())
        if migrated.get(thing) != modelled.get(thing)
    ]


def _catalog(connection: Connection, schema: str) -> dict[str, str]:
    """What there is ("index run_ordered_idx of run") → its definition, as the server prints it."""
    _look_at(connection, schema)
    return {row.thing: row.definition for row in connection.execute(text(_DEFINITIONS))}


def _look_at(connection: Connection, schema: str) -> None:
    # The server leaves the schema out of what it prints for the schema that it looks at.
    connection.exec_driver_sql("SELECT set_config('search_path', %s, true)", (schema,))


_DEFINITIONS = """
WITH tables AS (
    SELECT oid, relname AS name FROM pg_class
    WHERE relnamespace = current_schema::regnamespace AND relkind IN ('r', 'p')
      AND NOT relispartition AND relname <> 'alembic_version'
)
SELECT format('table %s', t.name) AS thing,
       concat_ws(' ', 'table', 'partitioned by ' || pg_get_partkeydef(t.oid),
                 quote_literal(obj_description(t.oid, 'pg_class'))) AS definition
FROM tables t
UNION ALL
SELECT format('column %s.%s', t.name, a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod),
                 CASE WHEN a.attnotnull THEN 'not null' END,
                 'default ' || pg_get_expr(d.adbin, d.adrelid),
                 quote_literal(col_description(t.oid, a.attnum)))
FROM tables t
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT format('constraint %s of %s', c.conname, t.name), pg_get_constraintdef(c.oid, true)
FROM tables t
JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype <> 'n'
UNION ALL
SELECT format('index %s of %s', i.indexrelid::regclass, t.name),
       pg_get_indexdef(i.indexrelid, 0, true)
FROM tables t
JOIN pg_index i ON i.indrelid = t.oid
"""
