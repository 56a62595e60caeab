"""Stored rows of a closed run against what its history folds to: column by column, by the merge
rule of each, apart from the product's own comparison.

Only what history states is compared, never its silence. Rows that history has not may be right only
if they are attempts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tracker.core.batch import Batch
from tracker.core.merge import ATTEMPT, RUN, STEP, Row, Rule, Table

UNCOMPARED: Mapping[str, frozenset[str]] = {
    # Ours, or about the projection; a stack has frames that the SDK adds after interceptors saw it.
    "run": frozenset({"id", "ordered_at", "projected_at", "projected_length", "error_stack"}),
    "step": frozenset({"next_retry_at"}),
    "attempt": frozenset({"error_stack", "build_id", "next_retry_at"}),
}
DECIDED_LIVE_TOO = frozenset({"worker_version", "task_failure_version", "metadata_version"})
"""Versions by which a worker's later word may rightly stand against history's."""


def contradictions(
    history: Batch, runs: Sequence[Row], steps: Sequence[Row], attempts: Sequence[Row]
) -> Iterator[str]:
    """Where the stored rows of a closed run contradict what its history says."""
    if len(runs) != 1:
        yield f"{len(runs)} rows of one run"
        return
    [expected] = history.runs.values()
    yield from _fields(RUN, expected, runs[0])
    for table, told, stored in (
        (STEP, history.steps, steps),
        (ATTEMPT, history.attempts, attempts),
    ):
        rows = {row["id"]: row for row in stored}
        for key, row in told.items():
            if key not in rows:
                yield f"{table.name} {row.get('name', key)} is not stored"
            else:
                yield from _fields(table, row, rows[key])
    for row in steps:
        if row["id"] not in history.steps:
            yield f"step {row['name']} is not in history"


def _fields(table: Table, told: Row, stored: Row) -> Iterator[str]:
    for column in table.columns:
        name, new, old = column.name, told.get(column.name), stored[column.name]
        if name in UNCOMPARED[table.name] or column.version in DECIDED_LIVE_TOO:
            continue
        if column.rule is Rule.GREATEST:
            same = told.get(str(column.version)) is None or new == old
        elif column.rule is Rule.MIN:
            same = new is None or (old is not None and old <= new)
        elif column.rule is Rule.MAX:
            same = new is None or (old is not None and old >= new)
        else:
            same = new is None or new == old
        if not same:
            yield f"{table.name}.{name}: stored {old!r}, history {new!r}"
