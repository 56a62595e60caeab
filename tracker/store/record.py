"""Writes a folded batch: one statement over one jsonb parameter, generated from the merge table.

One round trip per batch whatever its size, a millisecond or two for a few steps. Tables are touched
in one fixed order (run, step, attempt, payload, then the rest), which is what keeps writers from
deadlocking; the final SELECT names them in that order because that is what Postgres follows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, LiteralString, cast

import psycopg

from tracker.core.batch import Batch
from tracker.core.merge import ATTEMPT, RUN, STEP, Column, Rule, Table
from tracker.store.announcing import recorded
from tracker.store.batch_document import Follows, encode, what_follows

LABEL_MAX = 256
"""Characters of a metadata key or value up to which `run_label` carries it."""


async def write_batch(
    connection: psycopg.AsyncConnection[Any],
    schema: str,
    batch: Batch,
    *,
    prepare: bool = True,
    announce: bool = True,
) -> None:
    """Merge a batch into the tables, atomically.

    Args:
        connection: In autocommit mode, or inside the caller's transaction.
        schema: The tracker's schema, a checked identifier.
        batch: From `core.fold.fold`.
        prepare: Whether the statement may be prepared; not through a transaction-mode pooler.
        announce: Whether what changes by it is told to the live feed.

    Raises:
        psycopg.Error: As the driver raises it; the recorder decides by its class.
    """
    encoded = encode(batch, announce=announce)
    await execute(connection, schema, encoded, prepare=prepare)


async def execute(
    connection: psycopg.AsyncConnection[Any], schema: str, encoded: bytes, *, prepare: bool = True
) -> None:
    """Run the statement with an encoded batch; see `write_batch`."""
    # A raw cursor sends the statement as it is: the usual one would look for placeholders in its
    # 18 kB each time, which costs as much as the rest of the call.
    cursor = psycopg.AsyncRawCursor(connection)
    sql = statement(schema, what_follows(encoded))
    await cursor.execute(sql, [encoded.decode()], prepare=prepare)


@cache
def statement(schema: str, follows: Follows = "everything") -> LiteralString:
    """The SQL that `execute` runs for a schema; its parameter is `$1`, for a raw cursor.

    Most batches are of fresh steps, and those wait for them: they go without what follows from
    runs and failures.
    """
    runs = _upsert(RUN) if follows == "everything" else _NO_RUNS
    ctes = [_GIVEN, runs, _upsert(STEP), _upsert(ATTEMPT), _PAYLOADS]
    counted = ["run_rows", "step_rows", "attempt_rows", "payload_rows"]
    if follows != "fresh steps":
        ctes.append(_OF_FAILURES)
        counted += ["failure_rows", "failure_states"]
    ctes.append(_ANNOUNCED)
    counted.append("announced")
    if follows == "everything":
        ctes.append(_OF_RUNS)
        counted += _RUNS_COUNTED
    # Named in the order in which tables are written, for that is what Postgres follows.
    counts = " + ".join(f"(SELECT count(*) FROM {name})" for name in counted)
    sql = f"WITH {f',{chr(10)}'.join(ctes)}\nSELECT {counts}"
    return cast("LiteralString", sql.replace("{schema}", f'"{schema}"'))


# Nothing is written to an erased run. Whether there is any is asked once, by an index that holds
# those alone; only then is each row asked about.
_GIVEN = """given AS MATERIALIZED (SELECT $1::jsonb AS j),
erasures AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM {schema}.run WHERE erased_at IS NOT NULL) AS found)"""


def _upsert(table: Table) -> str:
    names = ", ".join(column.name for column in table.columns)
    typed = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    merges = ",\n        ".join(_assignments(table.columns))
    guard = _SAME_RUN if table is RUN else ""
    return f"""{table.name}_rows AS (
    INSERT INTO {{schema}}.{table.name} AS kept ({names})
    SELECT {names} FROM given, jsonb_to_recordset(j->'{table.name}') AS x({typed})
    {_OF_ERASED.get(table.name, "")}
    ON CONFLICT (id) DO UPDATE SET
        {merges}{guard}
    RETURNING kept.*
)"""


# Two runs may claim one id only if somebody copied a memo by hand; the first to come keeps it.
_SAME_RUN = """
    WHERE (kept.run_key IS NULL OR excluded.run_key IS NULL OR kept.run_key = excluded.run_key)
      AND kept.erased_at IS NULL"""

_OF_ERASED = {
    "step": """WHERE CASE WHEN (SELECT found FROM erasures) THEN NOT EXISTS (
        SELECT FROM {schema}.run r WHERE r.namespace = x.namespace AND r.run_key = x.run_key
          AND r.erased_at IS NOT NULL) ELSE true END""",
    "attempt": """WHERE CASE WHEN (SELECT found FROM erasures) THEN NOT EXISTS (
        SELECT FROM {schema}.step s JOIN {schema}.run r
          ON r.namespace = s.namespace AND r.run_key = s.run_key AND r.erased_at IS NOT NULL
        WHERE s.id = x.step_id) ELSE true END""",
}


def _assignments(columns: Iterable[Column]) -> Iterable[str]:
    for column in columns:
        name = column.name
        match column.rule:
            case Rule.FIRST:
                yield f"{name} = coalesce(kept.{name}, excluded.{name})"
            case Rule.MIN:
                yield f"{name} = least(kept.{name}, excluded.{name})"
            case Rule.MAX:
                yield f"{name} = greatest(kept.{name}, excluded.{name})"
            case Rule.GREATEST:
                version = column.version
                newer = f"kept.{version} IS NULL OR excluded.{version} > kept.{version}"
                yield (
                    f"{name} = CASE WHEN excluded.{version} IS NOT NULL AND ({newer}) "
                    f"THEN {_given(column)} ELSE kept.{name} END"
                )
            case Rule.KEY:
                pass


def _given(column: Column) -> str:
    """What a statement gives a column, with what people changed on top of it."""
    if column.patch is None:
        return f"excluded.{column.name}"
    patch = f"kept.{column.patch}"
    return f"""CASE WHEN {patch} IS NULL THEN excluded.{column.name}
        ELSE (coalesce(excluded.{column.name}, '{{}}') || {patch}) - ARRAY(
            SELECT key FROM jsonb_each({patch}) WHERE value = 'null') END"""


_PAYLOADS = """payload_rows AS (
    INSERT INTO {schema}.payload (id, treatment, encoding, size, digest, body, data, key_id)
    SELECT id, treatment, encoding, size, decode(digest, 'hex'), body, decode(data, 'base64'),
        key_id
    FROM given, jsonb_to_recordset(j->'payload') AS x(
        id uuid, treatment text, encoding text, size integer, digest text, body jsonb, data text,
        key_id text)
    WHERE CASE WHEN (SELECT found FROM erasures) THEN x.id IN (
        SELECT unnest(ARRAY[input_id, output_id]) FROM run_rows
        UNION ALL SELECT unnest(ARRAY[input_id, output_id]) FROM step_rows) ELSE true END
    ON CONFLICT (id) DO NOTHING
    RETURNING 1
)"""

_OF_FAILURES = """failed AS (
    -- Whatever order facts come in: an attempt's error makes the row, the step's row its state.
    SELECT DISTINCT ON (s.id) s.id, s.namespace, s.run_key, s.kind, s.name, s.status, s.attempts,
           e.error_type, e.error_message, e.build_id, e.at,
           min(e.at) OVER (PARTITION BY s.id) AS first_at
    FROM step_rows s
    CROSS JOIN LATERAL (
        SELECT a.error_type, a.error_message, a.build_id,
               coalesce(a.finished_at, a.started_at) AS at
        FROM attempt_rows a WHERE a.step_id = s.id AND a.error_type IS NOT NULL
        UNION ALL
        SELECT s.error_type, s.error_message, NULL,
               coalesce(s.finished_at, s.last_started_at, s.started_at, s.recorded_at)
        WHERE s.error_type IS NOT NULL
    ) e
    ORDER BY s.id, e.at DESC, e.build_id
),
failure_rows AS (
    INSERT INTO {schema}.step_failure AS kept (
        step_id, namespace, run_key, workflow_type, run_id, ordered_at, kind, name, status,
        attempts, error_type, error_message, build_id, first_at, seen_at)
    SELECT f.id, f.namespace, f.run_key, r.workflow_type, r.id, r.ordered_at,
           f.kind, f.name, f.status, f.attempts, f.error_type, f.error_message, f.build_id,
           f.first_at, f.at
    FROM failed f
    -- Of this batch, or from before, which its statement does not see changed.
    LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT id, workflow_type, ordered_at FROM run_rows n
            WHERE n.namespace = f.namespace AND n.run_key = f.run_key
            UNION ALL
            SELECT id, workflow_type, ordered_at FROM {schema}.run k
            WHERE k.namespace = f.namespace AND k.run_key = f.run_key) known
        LIMIT 1) r ON true
    ORDER BY f.id
    ON CONFLICT (step_id) DO UPDATE SET
        workflow_type = coalesce(kept.workflow_type, excluded.workflow_type),
        run_id = coalesce(kept.run_id, excluded.run_id),
        ordered_at = coalesce(kept.ordered_at, excluded.ordered_at),
        status = excluded.status, attempts = excluded.attempts,
        error_type = CASE WHEN excluded.seen_at >= kept.seen_at
            THEN excluded.error_type ELSE kept.error_type END,
        error_message = CASE WHEN excluded.seen_at >= kept.seen_at
            THEN coalesce(excluded.error_message, kept.error_message)
            ELSE kept.error_message END,
        build_id = coalesce(excluded.build_id, kept.build_id),
        first_at = least(kept.first_at, excluded.first_at),
        seen_at = greatest(kept.seen_at, excluded.seen_at)
    RETURNING 1
),
failure_states AS (
    -- Of steps that go on, or well, after they had failed; of runs that came after their failures.
    UPDATE {schema}.step_failure t SET
        status = CASE WHEN s.id IS NULL THEN t.status ELSE s.status END,
        attempts = CASE WHEN s.id IS NULL THEN t.attempts ELSE s.attempts END,
        run_id = coalesce(t.run_id, r.id), ordered_at = coalesce(t.ordered_at, r.ordered_at),
        workflow_type = coalesce(t.workflow_type, r.workflow_type)
    FROM (
        SELECT id FROM step_rows WHERE error_type IS NULL
        UNION
        SELECT u.step_id FROM run_rows n
        JOIN {schema}.step_failure u ON u.namespace = n.namespace AND u.run_key = n.run_key
        WHERE u.run_id IS NULL
    ) touched
    LEFT JOIN step_rows s ON s.id = touched.id AND s.error_type IS NULL
    JOIN {schema}.step_failure k ON k.step_id = touched.id
    LEFT JOIN run_rows r
        ON k.run_id IS NULL AND r.namespace = k.namespace AND r.run_key = k.run_key
    WHERE t.step_id = touched.id AND touched.id NOT IN (SELECT id FROM failed)
      AND (r.id IS NOT NULL OR (s.id IS NOT NULL
           AND (t.status, t.attempts) IS DISTINCT FROM (s.status, s.attempts)))
    RETURNING 1
)"""

_ANNOUNCED = f"""announced AS (
    {recorded()}
    RETURNING 1
)"""

_OF_RUNS = f"""labeled AS (
    SELECT r.id, r.namespace, r.ordered_at, r.metadata
    FROM run_rows r, given
    WHERE r.id IN (SELECT id FROM jsonb_to_recordset(j->'run') AS x(id uuid, metadata jsonb)
                   WHERE metadata IS NOT NULL)
),
label_rows AS (
    INSERT INTO {{schema}}.run_label AS kept (run_id, key, value, namespace, ordered_at)
    SELECT r.id, e.key, e.value #>> '{{}}', r.namespace, r.ordered_at
    FROM labeled r, jsonb_each(r.metadata) e
    WHERE jsonb_typeof(e.value) IN ('string', 'number', 'boolean')
      AND length(e.value #>> '{{}}') <= {LABEL_MAX} AND length(e.key) <= {LABEL_MAX}
    ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value
    WHERE kept.value <> excluded.value
    RETURNING 1
),
label_gone AS (
    DELETE FROM {{schema}}.run_label l USING labeled r
    WHERE l.run_id = r.id AND NOT EXISTS (
        SELECT FROM jsonb_each(r.metadata) e
        WHERE e.key = l.key AND jsonb_typeof(e.value) IN ('string', 'number', 'boolean')
          AND length(e.value #>> '{{}}') <= {LABEL_MAX})
    RETURNING 1
),
ref_rows AS (
    INSERT INTO {{schema}}.run_ref (run_id, namespace, ref_type, ref_id, ordered_at)
    SELECT r.id, r.namespace, r.ref_type, r.ref_id, r.ordered_at
    FROM run_rows r WHERE r.ref_type IS NOT NULL
    UNION
    SELECT r.id, r.namespace, x.ref_type, x.ref_id, r.ordered_at
    FROM given, jsonb_to_recordset(j->'ref') AS x(run_id uuid, ref_type text, ref_id text)
    JOIN run_rows r ON r.id = x.run_id
    ON CONFLICT (run_id, ref_type, ref_id) DO NOTHING
    RETURNING 1
),
workflow_rows AS (
    INSERT INTO {{schema}}.workflow (
        namespace, workflow_type, ref_type, ref_id, metadata, created_at)
    SELECT namespace, workflow_type, ref_type, ref_id, metadata, ordered_at FROM run_rows
    ORDER BY namespace, workflow_type, ref_type, ref_id, ordered_at
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
    RETURNING 1
),
type_rows AS (
    INSERT INTO {{schema}}.workflow_type AS kept (
        namespace, name, aliases, task_queue, input_schema, registered_at)
    SELECT namespace, name, aliases, task_queue, input_schema,
           CASE WHEN registered THEN now() END
    FROM given, jsonb_to_recordset(j->'workflow_type') AS x(
        namespace text, name text, aliases text[], task_queue text, input_schema jsonb,
        registered boolean)
    -- DO UPDATE locks the row even where its WHERE says no: known types are left out before.
    WHERE registered OR NOT EXISTS (
        SELECT FROM {{schema}}.workflow_type w
        WHERE w.namespace = x.namespace AND w.name = x.name)
    ON CONFLICT (namespace, name) DO UPDATE SET
        aliases = excluded.aliases, task_queue = excluded.task_queue,
        input_schema = excluded.input_schema, registered_at = excluded.registered_at
    WHERE excluded.registered_at IS NOT NULL
    RETURNING 1
),
confirmed AS (
    -- A worker runs it: the start has arrived, whatever the caller of Temporal saw. A row whose
    -- run is to be canceled stays for the relay.
    DELETE FROM {{schema}}.outbox o USING run_rows r
    WHERE o.id = r.id AND r.accepted_at IS NOT NULL AND o.cancel_requested_at IS NULL
    RETURNING 1
)"""

_RUNS_COUNTED = ("label_rows", "label_gone", "ref_rows", "workflow_rows", "type_rows", "confirmed")
_NO_RUNS = "run_rows AS (SELECT * FROM {schema}.run WHERE false)"
