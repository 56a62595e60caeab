-- Taking in starts. One jsonb parameter, so that every driver a caller may use can pass it.

-- name: accept
WITH given AS MATERIALIZED (
    SELECT g.j, clock_timestamp() AS at FROM (SELECT CAST(%(start)s AS jsonb) AS j) g
),
claimed AS (
    -- Waits for another transaction that holds the key; DO NOTHING means that it is taken.
    INSERT INTO {schema}.idempotency (namespace, key, digest, run_id, created_at)
    SELECT j->>'namespace', j->>'idempotency_key', decode(j->>'digest', 'hex'),
           (j->>'id')::uuid, at
    FROM given WHERE j->>'idempotency_key' IS NOT NULL
    ON CONFLICT (namespace, key) DO NOTHING
    RETURNING run_id
),
accepted AS MATERIALIZED (
    SELECT x.*, j, at
    FROM given, jsonb_to_record(j) AS x(
        id uuid, namespace text, engine text, workflow_type text, workflow_id text,
        task_queue text, ref_type text, ref_id text, ref_version integer, input_id uuid,
        input_version integer, metadata jsonb, metadata_version bigint, status text,
        status_version bigint, rerun_of uuid,
        request text, on_conflict text, lease double precision, in_transaction boolean)
    WHERE j->>'idempotency_key' IS NULL OR EXISTS (SELECT FROM claimed)
),
run_row AS (
    INSERT INTO {schema}.run (
        id, namespace, engine, workflow_type, workflow_id, task_queue, ref_type, ref_id,
        ref_version, input_id, input_version, metadata, metadata_version, status, status_version,
        ordered_at, accepted_at, rerun_of)
    SELECT id, namespace, engine, workflow_type, workflow_id, task_queue, ref_type, ref_id,
           ref_version, input_id, input_version, metadata, metadata_version, status,
           status_version, at, at, rerun_of
    FROM accepted
    RETURNING *
),
announced AS (
    {announce run_row}
),
payload_row AS (
    INSERT INTO {schema}.payload (id, treatment, encoding, size, digest, body, data, key_id)
    SELECT x.id, treatment, encoding, size, decode(digest, 'hex'), body, decode(data, 'base64'),
           key_id
    FROM accepted, jsonb_to_record(j->'input') AS x(
        id uuid, treatment text, encoding text, size integer, digest text, body jsonb, data text,
        key_id text)
    WHERE accepted.input_id IS NOT NULL
    ON CONFLICT (id) DO NOTHING
),
ref_row AS (
    INSERT INTO {schema}.run_ref (run_id, namespace, ref_type, ref_id, ordered_at)
    SELECT id, namespace, ref_type, ref_id, at FROM accepted WHERE ref_type IS NOT NULL
),
label_rows AS (
    INSERT INTO {schema}.run_label (run_id, key, value, namespace, ordered_at)
    SELECT a.id, e.key, e.value #>> '{}', a.namespace, a.at
    FROM accepted a, jsonb_each(a.metadata) e
    WHERE jsonb_typeof(e.value) IN ('string', 'number', 'boolean')
      AND length(e.value #>> '{}') <= {label_max} AND length(e.key) <= {label_max}
),
outbox_row AS (
    INSERT INTO {schema}.outbox (
        id, kind, namespace, run_id, request, on_conflict, created_at, leased_until, tries)
    SELECT id, 'start', namespace, id, decode(request, 'base64'), on_conflict, at,
           at + make_interval(secs => lease), CASE WHEN lease > 0 THEN 1 ELSE 0 END
    FROM accepted
),
workflow_row AS (
    -- Within somebody's transaction it would make every other start of this ref wait for its end.
    INSERT INTO {schema}.workflow (
        namespace, workflow_type, ref_type, ref_id, metadata, created_at)
    SELECT namespace, workflow_type, ref_type, ref_id, metadata, at
    FROM accepted WHERE NOT in_transaction
    ON CONFLICT ON CONSTRAINT workflow_identity_key DO NOTHING
)
SELECT {run_columns} FROM run_row

-- name: known_key
SELECT digest, run_id FROM {schema}.idempotency
WHERE namespace = %(namespace)s AND key = %(key)s

