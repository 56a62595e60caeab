"""The memo field: what we write we read, what others write never disturbs, an id binds once."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import json_objects, refs
from tracker.core.ids import Ref, derived_run_id
from tracker.core.memo import Carried, read_memo

OURS = UUID("01935f00-0000-7000-8000-00000000000a")
FIRST = UUID("01935f00-0000-7000-8000-000000000001")
NEXT = UUID("7f6d1c1e-3c4b-4d5a-9e8f-0a1b2c3d4e5f")

carried = st.builds(
    Carried,
    id=st.none(),
    ref=st.none() | refs,
    links=st.lists(refs, max_size=2).map(tuple),
    metadata=json_objects,
) | st.builds(
    Carried, id=st.uuids(), workflow_id=st.text(min_size=1), ref=refs, metadata=json_objects
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
# The field's own keys with foreign content reach deeper than random keys would.
broken_memos = st.dictionaries(
    st.sampled_from(["id", "workflow_id", "ref_type", "ref_id", "links", "metadata"]), anything
)


@given(what=carried)
def test_what_is_written_is_read_back_through_json(what: Carried) -> None:
    assert read_memo(json.loads(json.dumps(what.to_memo()))) == what


@given(value=anything | broken_memos)
def test_a_foreign_memo_never_disturbs(value: Any) -> None:
    read = read_memo(value)
    assert read_memo(read.to_memo()).to_memo() == read.to_memo()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        ["id"],
        {"id": "no uuid"},
        {"ref_type": "order"},
        {"ref_type": "a/b", "ref_id": "1"},
        {"ref_type": "order", "ref_id": "\ud800"},
        {"links": [["order"], ["order", 1], "x", ["a/b", "1"]], "metadata": ["no object"]},
    ],
)
def test_what_cannot_be_read_counts_as_absent(value: Any) -> None:
    assert read_memo(value) == Carried()


def test_one_broken_part_does_not_take_the_others_along() -> None:
    memo = {"id": 5, "ref_type": "order", "ref_id": "o-1", "links": [["cart", "c-1"], ["cart"]]}
    assert read_memo(memo) == Carried(ref=Ref("order", "o-1"), links=(Ref("cart", "c-1"),))


def test_the_memo_of_a_run_without_anything_to_carry_is_empty() -> None:
    assert Carried().to_memo() == {}


def test_an_id_binds_the_first_run_of_the_workflow_id_that_it_was_made_for() -> None:
    what = Carried(id=OURS, workflow_id="order-1")
    assert what.run_id("ns", "order-1", FIRST, FIRST) == OURS
    assert what.run_id("ns", "order-1", FIRST, None) == OURS


@pytest.mark.parametrize(
    ("workflow_id", "run_key", "first_run_key"),
    [
        ("order-1", NEXT, FIRST),
        ("copy-of-order-1", FIRST, FIRST),
    ],
    ids=["a later run of the chain", "a copy of the memo"],
)
def test_an_id_does_not_bind_a_run_that_only_inherited_the_memo(
    workflow_id: str, run_key: UUID, first_run_key: UUID
) -> None:
    what = Carried(id=OURS, workflow_id="order-1")
    found = what.run_id("ns", workflow_id, run_key, first_run_key)
    assert found == derived_run_id("ns", run_key, first_run_key) != OURS


def test_a_child_inherits_ref_and_metadata_but_neither_id_nor_links() -> None:
    parent = Carried(
        id=OURS,
        workflow_id="order-1",
        ref=Ref("order", "o-1"),
        links=(Ref("cart", "c-1"),),
        metadata={"team": "x"},
    )
    assert parent.for_child() == Carried(ref=Ref("order", "o-1"), metadata={"team": "x"})
