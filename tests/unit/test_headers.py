"""The header survives a round trip, and its reader survives anything."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracker.core.headers import Header, is_step_name, read_header
from tracker.core.ids import Ref
from tracker.core.retries import Retry

step_names = st.text(min_size=1, max_size=200).filter(is_step_name)
headers = st.builds(
    Header,
    step=st.none() | step_names,
    ordinal=st.none() | st.integers(1, 10_000),
    retry=st.none() | st.builds(Retry, jitter=st.floats(0, 1), max_attempts=st.integers(1, 9)),
    ref=st.none() | st.builds(Ref, st.just("order"), step_names),
    run_id=st.none() | st.uuids(),
)
timed_headers = st.builds(
    Header,
    ordinal=st.integers(1, 10_000),
    asked_at=st.integers(1, 2**62),
)
KEYS = ("step", "ordinal", "retry", "ref_type", "ref_id", "run_id", "asked_at")
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(header=headers | timed_headers)
def test_round_trip(header: Header) -> None:
    assert read_header(header.encode()) == header


@given(data=st.binary())
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    assert isinstance(read_header(data), Header)


@given(content=st.fixed_dictionaries(dict.fromkeys(KEYS, anything)))
@example(content=dict.fromkeys(KEYS, 10**400))
@example(content=dict.fromkeys(KEYS, float("inf")))
def test_arbitrary_json_never_raises(content: dict[str, Any]) -> None:
    assert isinstance(read_header(json.dumps(content).encode()), Header)


@pytest.mark.parametrize("data", [None, b"", b"[]", b"null", b"{", b"[" * 100_000])
def test_unreadable_is_absent(data: bytes | None) -> None:
    assert read_header(data) == Header()


def test_a_broken_part_does_not_hide_the_others() -> None:
    run_id = uuid4()
    content = {
        "step": "",
        "ordinal": True,
        "retry": {"jitter": 7},
        "ref_type": "or/der",
        "ref_id": "o-1",
        "run_id": str(run_id),
        "of a later version": 1,
    }
    assert read_header(json.dumps(content).encode()) == Header(run_id=run_id)


def test_wire_form() -> None:
    header = Header(
        step="send-emails",
        retry=Retry(max_attempts=4, initial=0.5, backoff="linear"),
        ref=Ref("order", "o-1"),
        run_id=UUID(int=0),
    )
    assert json.loads(header.encode()) == {
        "step": "send-emails",
        "retry": {"max_attempts": 4, "initial": 0.5, "backoff": "linear"},
        "ref_type": "order",
        "ref_id": "o-1",
        "run_id": "00000000-0000-0000-0000-000000000000",
    }
