"""The merge rules as algebra: whatever the order, the grouping and the repetition, one result."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.merge import RECORDED, RUN, Row, Rule, Table, merge_into

FEW = st.integers(0, 3)
tables = pytest.mark.parametrize("table", RECORDED, ids=lambda table: table.name)


@st.composite
def rows(draw: st.DrawFn, table: Table) -> Row:
    """A statement about the one row there is. What FIRST keeps is the same in all statements that
    know it, and so is what follows one version; both as the rules demand."""
    row: Row = {"id": "the row"}
    for column in table.columns:
        match column.rule:
            case Rule.FIRST:
                row[column.name] = draw(st.sampled_from([None, "what never changes"]))
            case Rule.MIN | Rule.MAX:
                row[column.name] = draw(st.none() | FEW)
            case Rule.GREATEST if column.name == column.version:
                row |= _group(table, column.name, draw(st.none() | FEW))
            case _:
                pass
    said = draw(st.sets(st.sampled_from(list(row))))
    return {name: value for name, value in row.items() if value is not None or name in said}


def _group(table: Table, version: str, value: int | None) -> Row:
    members = table.versioned_by(version)
    # Some members are absent at some versions: a null that wins must win as a null.
    said = {name: None if value == 1 else f"{name} at {value}" for name in members}
    return {} if value is None else said | {version: value}


def merged(table: Table, *statements: Row) -> dict[str, Any]:
    """The statements in this order; absent and None mean the same."""
    result = dict(statements[0])
    for statement in statements[1:]:
        merge_into(table, result, statement)
    return {name: value for name, value in result.items() if value is not None}


@tables
@given(data=st.data())
def test_order_does_not_matter(table: Table, data: st.DataObject) -> None:
    one, other = data.draw(rows(table)), data.draw(rows(table))
    assert merged(table, one, other) == merged(table, other, one)


@tables
@given(data=st.data())
def test_grouping_does_not_matter(table: Table, data: st.DataObject) -> None:
    one, two, three = (data.draw(rows(table)) for _ in range(3))
    last_two = merged(table, two, three)
    assert merged(table, one, two, three) == merged(table, one, last_two)


@tables
@given(data=st.data())
def test_repetition_does_not_matter(table: Table, data: st.DataObject) -> None:
    one, other = data.draw(rows(table)), data.draw(rows(table))
    assert merged(table, one, one) == merged(table, one)
    assert merged(table, one, other, one) == merged(table, one, other)


@tables
@given(data=st.data())
def test_the_other_statement_is_left_alone(table: Table, data: st.DataObject) -> None:
    one, other = data.draw(rows(table)), data.draw(rows(table))
    before = dict(other)
    merge_into(table, one, other)
    assert other == before


@tables
def test_columns_are_named_once_and_follow_a_version_of_their_own_table(table: Table) -> None:
    names = [column.name for column in table.columns]
    assert len(names) == len(set(names))
    for column in table.columns:
        if column.rule is Rule.GREATEST:
            assert column.version is not None
            assert column.version in table.versioned_by(column.version)
        else:
            assert column.version is None
    assert [column.name for column in table.columns if column.rule is Rule.KEY] == ["id"]


def test_the_greater_version_takes_its_nulls_along() -> None:
    claimed = {"id": 1, "status_version": 1, "status": "completed", "output_id": "o"}
    corrected = {"id": 1, "status_version": 2, "status": "running"}
    expected = {"id": 1, "status_version": 2, "status": "running"}
    assert merged(RUN, claimed, corrected) == expected
    assert merged(RUN, corrected, claimed) == expected


def test_a_value_without_its_version_says_nothing() -> None:
    row = {"id": 1, "status_version": 1, "status": "running"}
    assert merged(RUN, row, {"id": 1, "status": "failed"}) == row


def test_earliest_start_first_input_and_longest_projection_stay() -> None:
    one = {"id": 1, "started_at": 5, "input_id": "a", "projected_length": 9}
    two = {"id": 1, "started_at": 3, "projected_length": 4, "continued_to": None}
    assert merged(RUN, one, two) == {
        "id": 1,
        "started_at": 3,
        "input_id": "a",
        "projected_length": 9,
    }
