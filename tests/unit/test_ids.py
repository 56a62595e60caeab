"""Ids: deterministic where they are derived, shaped like UUIDv7, and never two for one thing."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.events import AttemptIdentity, StepIdentity
from tracker.core.ids import (
    Ref,
    activity_key,
    attempt_id,
    derived_run_id,
    event_key,
    local_activity_key,
    new_id,
    ordinal_key,
    payload_id,
    started_key,
    step_id,
)
from tracker.core.status import StepKind, micros
from tracker.errors import InvalidRequest

V7 = UUID("01935f00-1234-7000-8000-000000000001")
V4 = UUID("7f6d1c1e-3c4b-4d5a-9e8f-0a1b2c3d4e5f")

milliseconds = st.integers(0, 2**48 - 1)
any_uuid = st.uuids()
names = st.text(max_size=20)
moments = st.integers(0, 2**52).map(
    lambda value: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
)


def looks_like_v7(value: UUID) -> bool:
    return value.version == 7 and value.variant == RFC_4122 and 0 <= value.int < 1 << 128


def milliseconds_of(value: UUID) -> int:
    return value.int >> 80


@given(now=milliseconds)
def test_a_new_id_carries_its_time_and_is_one_of_its_kind(now: int) -> None:
    one, other = new_id(now), new_id(now)
    assert looks_like_v7(one)
    assert milliseconds_of(one) == now
    assert one != other


def test_a_new_id_takes_the_clock() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= milliseconds_of(new_id()) <= time.time_ns() // 1_000_000


@given(namespace=names, run_key=any_uuid, first=st.none() | any_uuid)
def test_a_derived_run_id_is_a_function_of_what_it_is_made_from(
    namespace: str, run_key: UUID, first: UUID | None
) -> None:
    one = derived_run_id(namespace, run_key, first)
    assert looks_like_v7(one)
    assert one == derived_run_id(namespace, run_key, first)
    assert one != derived_run_id(namespace + "x", run_key, first)
    assert one != run_key


def test_a_derived_run_id_borrows_the_time_that_there_is() -> None:
    assert milliseconds_of(derived_run_id("ns", V7, None)) == milliseconds_of(V7)
    # A run id made by continue-as-new has none; the first run of its chain lends it.
    assert milliseconds_of(derived_run_id("ns", V4, V7)) == milliseconds_of(V7)
    assert milliseconds_of(derived_run_id("ns", V7, V4)) == milliseconds_of(V7)


@given(run_key=any_uuid, key=names, kinds=st.permutations(list(StepKind)))
def test_steps_differ_by_run_kind_and_key(run_key: UUID, key: str, kinds: list[StepKind]) -> None:
    one = step_id("ns", run_key, kinds[0], key)
    assert looks_like_v7(one)
    assert one == step_id("ns", run_key, kinds[0], key)
    others = {
        step_id("other", run_key, kinds[0], key),
        step_id("ns", new_id(), kinds[0], key),
        step_id("ns", run_key, kinds[1], key),
        step_id("ns", run_key, kinds[0], key + "'"),
    }
    assert one not in others


@given(step=any_uuid, one=moments, other=moments)
def test_attempts_differ_by_the_microsecond_of_their_start(
    step: UUID, one: datetime, other: datetime
) -> None:
    first, second = (attempt_id(step, started_key(moment)) for moment in (one, other))
    assert looks_like_v7(first)
    assert (first == second) == (one == other)


@given(owner=any_uuid, digest=st.binary(min_size=32, max_size=32), moment=moments)
def test_a_payload_id_lies_in_the_month_of_its_moment(
    owner: UUID, digest: bytes, moment: datetime
) -> None:
    one = payload_id(owner, "input", digest, moment)
    assert looks_like_v7(one)
    hour = moment.replace(minute=0, second=0, microsecond=0)
    assert milliseconds_of(one) == micros(hour) // 1000
    assert one == payload_id(owner, "input", digest, hour)
    assert one != payload_id(owner, "output", digest, moment)
    assert one != payload_id(owner, "input", digest[::-1] + b"x", moment)


@given(moment=moments)
def test_microseconds_are_exact_and_blind_to_time_zones(moment: datetime) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(hours=-7)))
    assert micros(moment) == micros(elsewhere)
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros(moment)) == moment


def test_a_naive_time_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        micros(datetime(2026, 11, 20))  # noqa: DTZ001 - what is tested


def test_step_keys_of_different_kinds_of_naming_never_meet() -> None:
    at = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
    assert activity_key("pay", at) == "pay@1795176000123456"
    assert activity_key("pay", at) != activity_key("pay", at + timedelta(microseconds=1))
    assert local_activity_key(5) == "local:5"
    assert event_key(5) == "event:5"
    assert ordinal_key(5) == "n5"
    assert started_key(at) == "1795176000123456"


def test_a_local_attempt_is_named_by_its_number_a_remote_one_by_its_start() -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)

    def one(kind: StepKind, number: int, started_at: datetime) -> AttemptIdentity:
        step = StepIdentity(namespace="ns", run_key=V7, kind=kind, step_key="k", name="n")
        return AttemptIdentity(step=step, number=number, started_at=started_at)

    later = at + timedelta(microseconds=1)
    remote, local = StepKind.ACTIVITY, StepKind.LOCAL_ACTIVITY
    assert one(remote, 1, at).id == one(remote, 2, at).id
    assert one(remote, 1, at).id != one(remote, 1, later).id
    assert one(local, 1, at).id == one(local, 1, later).id
    assert one(local, 1, at).id != one(local, 2, at).id
    assert one(remote, 1, at).position == micros(at)
    assert one(local, 2, at).position == 2


@pytest.mark.parametrize(
    ("ref_type", "ref_id"),
    [
        ("order", "o-1"),
        ("order", "a/b/c"),
        ("t" * 100, "i" * 200),
        ("größe", "🚀"),
        (" ", " "),
    ],
)
def test_a_ref_is_read_back_from_its_text(ref_type: str, ref_id: str) -> None:
    ref = Ref(ref_type, ref_id)
    assert str(ref) == f"{ref_type}/{ref_id}"
    assert Ref.parse(str(ref)) == ref


@pytest.mark.parametrize(
    ("ref_type", "ref_id", "field"),
    [
        ("", "1", "ref_type"),
        ("a/b", "1", "ref_type"),
        ("t" * 101, "1", "ref_type"),
        ("a\x00", "1", "ref_type"),
        ("a\n", "1", "ref_type"),
        ("\ud800", "1", "ref_type"),
        ("a", "", "ref_id"),
        ("a", "i" * 201, "ref_id"),
        ("a", "1\x7f", "ref_id"),
        ("a", "1\n", "ref_id"),
        ("a", "\udfff", "ref_id"),
    ],
)
def test_an_unfit_ref_is_refused_by_the_name_of_its_part(
    ref_type: str, ref_id: str, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Ref(ref_type, ref_id)
    assert refused.value.details == {"field": field}


def test_a_text_without_a_slash_is_no_ref() -> None:
    with pytest.raises(InvalidRequest, match="ref_type/ref_id"):
        Ref.parse("order")
