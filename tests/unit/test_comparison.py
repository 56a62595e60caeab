"""What `verify` compares: all that is recorded, but for declared reasons."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.factories import ARun
from tracker.core.batch import Batch
from tracker.core.comparison import LEFT_OUT, PAYLOAD_FIELDS, StoredRun, compare, compared
from tracker.core.fold import fold
from tracker.core.merge import RECORDED, RUN, Row, Table
from tracker.core.payloads import StoredPayload, Treatment
from tracker.core.status import RunStatus


@pytest.mark.parametrize("table", RECORDED, ids=lambda table: table.name)
def test_every_recorded_column_is_compared_or_left_out_for_a_reason(table: Table) -> None:
    columns = {column.name for column in table.columns}
    left_out = LEFT_OUT[table.name]
    assert left_out.keys() <= columns
    assert set(compared(table)) == columns - left_out.keys()
    assert all(left_out.values())


def test_of_a_stored_value_its_digest_and_size_are_compared() -> None:
    known = {field.name for field in fields(StoredPayload)} | {"stored_at"}
    assert known == LEFT_OUT["payload"].keys() | set(PAYLOAD_FIELDS)


def test_an_open_run_is_not_blamed_for_what_history_has_not_decided() -> None:
    told = fold([ARun(ref=None).started(from_history=True)])
    ahead = a_row(told) | {"worker_identity": "later", "status_version": 1 << 20}
    assert compare(StoredRun(run=ahead), told) == []
    closed = ahead | {"status": RunStatus.COMPLETED}
    assert [one.column for one in compare(StoredRun(run=closed), told)] == ["status"]


def test_an_erased_run_lacks_nothing_and_another_one_its_values() -> None:
    run = ARun(ref=None)
    value = StoredPayload(b"d" * 32, 1, Treatment.FULL, "json/plain", b"1")
    started = run.started(input=value, from_history=True)
    told = fold([started, run.closed(output=value, from_history=True)])
    row = a_row(told)
    emptied = row | {"input_id": None, "output_id": None}
    columns = {one.column for one in compare(StoredRun(run=emptied), told)}
    assert columns == {"input_id", "output_id"}
    assert compare(StoredRun(run=emptied | {"erased_at": run.started_at}), told) == []
    lacking = StoredRun(run=row, missed=frozenset({row["input_id"]}))
    assert [one.table for one in compare(lacking, told)] == ["payload"]


def a_row(told: Batch) -> Row:
    """The run as the tables would have it."""
    [row] = told.runs.values()
    return dict.fromkeys((column.name for column in RUN.columns), None) | row
