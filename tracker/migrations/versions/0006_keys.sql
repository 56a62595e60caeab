-- Keys that reach some runs only, have a rate, and are rotated.

ALTER TABLE api_key
    ADD COLUMN ref_types text[],
    ADD COLUMN workflow_types text[],
    ADD COLUMN rate double precision,
    ADD COLUMN previous_hash bytea,
    ADD COLUMN previous_until timestamptz,
    ADD CONSTRAINT api_key_previous_key UNIQUE (previous_hash),
    ADD CONSTRAINT api_key_ref_types_check CHECK (cardinality(ref_types) BETWEEN 1 AND 20),
    ADD CONSTRAINT api_key_workflow_types_check
        CHECK (cardinality(workflow_types) BETWEEN 1 AND 20),
    ADD CONSTRAINT api_key_rate_check CHECK (rate > 0 AND rate <= 100000),
    ADD CONSTRAINT api_key_previous_check
        CHECK ((previous_hash IS NULL) = (previous_until IS NULL));
