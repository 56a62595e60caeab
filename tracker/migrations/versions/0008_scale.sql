-- What ten million runs asked for: types in the order of runs, open runs, words of error messages.

CREATE INDEX run_type_idx ON run (namespace, workflow_type, ordered_at, id);
CREATE INDEX run_open_idx ON run (namespace, ordered_at, id) WHERE finished_at IS NULL;

-- Stored: splitting the messages of a sample anew took most of the time of a search.
ALTER TABLE step_failure
    ADD COLUMN words tsvector NOT NULL
        GENERATED ALWAYS AS (to_tsvector('simple', coalesce(error_message, ''))) STORED;
DROP INDEX step_failure_text_idx;
CREATE INDEX step_failure_words_idx ON step_failure USING gin (words);

-- Of the run, so that lists of runs can go along failures; empty until the run is on record.
ALTER TABLE step_failure
    ADD COLUMN run_id uuid,
    ADD COLUMN ordered_at timestamptz,
    ADD CONSTRAINT step_failure_run_check CHECK ((run_id IS NULL) = (ordered_at IS NULL));
UPDATE step_failure f SET run_id = r.id, ordered_at = r.ordered_at
FROM run r WHERE r.namespace = f.namespace AND r.run_key = f.run_key;
CREATE INDEX step_failure_name_run_idx
    ON step_failure (namespace, name, status, ordered_at, run_id);
CREATE INDEX step_failure_fingerprint_run_idx
    ON step_failure (namespace, fingerprint, ordered_at, run_id);
CREATE INDEX step_failure_unplaced_idx ON step_failure (namespace, run_key) WHERE run_id IS NULL;
