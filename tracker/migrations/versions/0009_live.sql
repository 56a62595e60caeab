-- The live feed: what changed, first as its writer left it, then with its place in the order.

-- Written in the transaction of the change itself; ids are drawn before commits, so they are no
-- order that anybody could follow. Small and short-lived: the sequencer moves what it sees on.
CREATE TABLE change_pending (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    namespace  text        NOT NULL,
    kind       text        NOT NULL,
    run_id     uuid,
    run_key    uuid,
    status     text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    data       jsonb       NOT NULL,
    report     text,
    CONSTRAINT change_pending_pkey PRIMARY KEY (id),
    CONSTRAINT change_pending_kind_check CHECK (kind IN ('run', 'step'))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_threshold = -1);

CREATE TABLE change (
    seq            bigint      NOT NULL,
    pending_id     bigint      NOT NULL,
    namespace      text        NOT NULL,
    kind           text        NOT NULL,
    run_id         uuid,
    run_key        uuid,
    workflow_type  text,
    ref_type       text,
    ref_id         text,
    refs           jsonb,
    status         text        NOT NULL,
    at             timestamptz NOT NULL,
    sequenced_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    data           jsonb       NOT NULL,
    report         text,
    CONSTRAINT change_pkey PRIMARY KEY (seq),
    CONSTRAINT change_kind_check CHECK (kind IN ('run', 'step')),
    CONSTRAINT change_ref_check CHECK ((ref_type IS NULL) = (ref_id IS NULL))
);
CREATE INDEX change_run_idx ON change (run_id, seq);
COMMENT ON TABLE change IS
    'What changed, in the one order that all readers share. Kept for a while only.';
COMMENT ON COLUMN change.report IS
    'The report of an externally driven run that made the change, as it came.';

CREATE TABLE feed (
    id          integer NOT NULL,
    last_seq    bigint  NOT NULL,
    kept_after  bigint  NOT NULL,
    CONSTRAINT feed_pkey PRIMARY KEY (id),
    CONSTRAINT feed_one_check CHECK (id = 1),
    CONSTRAINT feed_kept_check CHECK (kept_after BETWEEN 0 AND last_seq)
);
INSERT INTO feed (id, last_seq, kept_after) VALUES (1, 0, 0);
COMMENT ON COLUMN feed.kept_after IS 'Changes up to this one are gone.';

CREATE TABLE ticket (
    secret_hash  bytea       NOT NULL,
    caller       jsonb       NOT NULL,
    expires_at   timestamptz NOT NULL,
    CONSTRAINT ticket_pkey PRIMARY KEY (secret_hash)
);
COMMENT ON TABLE ticket IS 'Lets a browser open one live connection, which sends no headers.';

-- Steps of externally driven runs.
ALTER TABLE step
    DROP CONSTRAINT step_kind_check,
    ADD CONSTRAINT step_kind_check CHECK (kind IN (
        'activity', 'local_activity', 'child_workflow', 'update', 'timer', 'signal',
        'nexus_operation', 'external'));
ALTER TABLE step_failure
    DROP CONSTRAINT step_failure_kind_check,
    ADD CONSTRAINT step_failure_kind_check CHECK (kind IN (
        'activity', 'local_activity', 'child_workflow', 'update', 'timer', 'signal',
        'nexus_operation', 'external'));
