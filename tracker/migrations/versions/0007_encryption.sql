-- Values that are encrypted: with which key.

ALTER TABLE payload
    ADD COLUMN key_id text,
    ADD CONSTRAINT payload_key_check
        CHECK (key_id IS NULL OR (body IS NULL AND data IS NOT NULL));
