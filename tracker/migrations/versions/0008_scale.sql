-- What ten million runs asked for: types in the order of runs, open runs, words of error messages.

CREATE INDEX run_type_idx ON run (namespace, workflow_type, ordered_at, id);
CREATE INDEX run_open_idx ON run (namespace, ordered_at, id) WHERE finished_at IS NULL;

-- Stored: splitting the messages of a sample anew took most of the time of a search.
ALTER TABLE step_failure
    ADD COLUMN words tsvector NOT NULL
        GENERATED ALWAYS AS (to_tsvector('simple', coalesce(error_message, ''))) STORED;
DROP INDEX step_failure_text_idx;
CREATE INDEX step_failure_words_idx ON step_failure USING gin (words);
