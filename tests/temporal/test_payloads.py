"""Payloads as they are stored: one form for live values and for history, and nothing too much."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadConverter

from tracker.core.payloads import Handling, StoredPayload, Treatment
from tracker.temporal.payloads import (
    PAYLOADS,
    stored_from_proto,
    stored_input_from_values,
    stored_output_from_value,
)

CONVERTER = PayloadConverter.default
FULL = Handling(Treatment.FULL)
ENCODED = Handling(Treatment.ENCODED)
SECRET = Payload(metadata={"encoding": b"binary/secret", "key": b"k1"}, data=b"\x01\x02")


def payload(encoding: bytes, data: bytes, **metadata: bytes) -> Payload:
    return Payload(metadata={"encoding": encoding, **metadata}, data=data)


@pytest.mark.parametrize("values", [["a"], [1, {"b": [None]}], [None], [{"ä": "€"}, 2.5, True]])
def test_arguments_are_one_json_array_from_either_side(values: list[Any]) -> None:
    from_history = stored_from_proto(CONVERTER.to_payloads_wrapper(values), FULL)
    live = stored_input_from_values(values, CONVERTER, FULL)
    assert live == from_history
    assert live is not None
    assert live.body is not None
    assert json.loads(live.body) == values


@pytest.mark.parametrize("value", ["a", 1, {"b": [None]}, b"bytes"])
def test_results_are_the_value_itself_from_either_side(value: Any) -> None:
    from_history = stored_from_proto(CONVERTER.to_payload(value), FULL)
    live = stored_output_from_value(value, CONVERTER, FULL)
    assert live == from_history
    assert live is not None
    if isinstance(value, bytes):
        assert (live.encoding, live.data, live.body) == ("binary/plain", value, None)
    else:
        assert live.body is not None
        assert json.loads(live.body) == value


def test_the_bytes_of_history_stay_as_they_are() -> None:
    spaced = Payloads(
        payloads=[payload(b"json/plain", b'{"b": 1}'), payload(b"json/protobuf", b"2")]
    )
    assert_body(stored_from_proto(spaced, FULL), b'[{"b": 1},2]')


def test_nothing_is_stored_where_there_is_nothing() -> None:
    assert stored_from_proto(Payloads(), FULL) is None
    assert stored_from_proto(CONVERTER.to_payload(None), FULL) is None
    assert stored_input_from_values([], CONVERTER, FULL) is None
    assert stored_output_from_value(None, CONVERTER, FULL) is None


def test_arguments_that_are_not_all_json_are_kept_whole() -> None:
    stored = stored_input_from_values([1, b"raw"], CONVERTER, FULL)
    assert stored is not None
    assert (stored.encoding, stored.body) == (PAYLOADS, None)
    assert stored.data is not None
    assert CONVERTER.from_payloads(Payloads.FromString(stored.data).payloads) == [1, b"raw"]


def test_metadata_that_is_needed_to_decode_is_kept() -> None:
    stored = stored_from_proto(SECRET, ENCODED)
    assert stored is not None
    assert stored.encoding == PAYLOADS
    assert stored.data is not None
    assert list(Payloads.FromString(stored.data).payloads) == [SECRET]
    plain = stored_from_proto(payload(b"binary/zipped", b"z"), ENCODED)
    assert plain is not None
    assert (plain.encoding, plain.data, plain.treatment) == ("binary/zipped", b"z", "encoded")


@pytest.mark.parametrize(
    "clear",
    [
        payload(b"json/plain", b"1"),
        payload(b"binary/plain", b"1"),
        payload(b"binary/protobuf", b"1", messageType=b"A"),
        payload(b"json/protobuf", b"1", messageType=b"A"),
        payload(b"binary/null", b""),
    ],
)
def test_encoded_never_keeps_what_is_clear(clear: Payload) -> None:
    assert stored_from_proto(clear, ENCODED) is None
    assert stored_from_proto(Payloads(payloads=[clear]), ENCODED) is None
    assert stored_from_proto(Payloads(payloads=[SECRET, clear]), ENCODED) is None
    assert stored_input_from_values([1], CONVERTER, ENCODED) is None
    assert stored_output_from_value(1, CONVERTER, ENCODED) is None


@pytest.mark.parametrize("source", [SECRET, Payloads(payloads=[SECRET])])
def test_none_and_digest_keep_no_value(source: Payload | Payloads) -> None:
    assert stored_from_proto(source, Handling(Treatment.NONE)) is None
    stored = stored_from_proto(source, Handling(Treatment.DIGEST))
    assert stored is not None
    assert (stored.treatment, stored.body, stored.data) == (Treatment.DIGEST, None, None)
    kept = Payloads(payloads=[SECRET]).SerializeToString(deterministic=True)
    assert stored.digest == sha256(kept).digest()


def test_a_redacting_callable_sees_the_list_of_arguments() -> None:
    handling = Handling(Treatment.REDACTED, redact=lambda arguments: arguments[:1])
    assert_body(stored_input_from_values([1, "secret"], CONVERTER, handling), b"[1]")


def test_a_value_that_the_converter_refuses_is_left_to_history() -> None:
    assert stored_input_from_values([object()], CONVERTER, FULL) is None
    assert stored_output_from_value(object(), CONVERTER, FULL) is None


def assert_body(stored: StoredPayload | None, body: bytes) -> None:
    assert stored is not None
    assert stored.body == body
