"""What of a value is stored, and that Postgres takes whatever we hand it as jsonb."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Json

from tracker.core.jsonb import NESTING_MAX, clean_text, fits_jsonb
from tracker.core.payloads import (
    Handling,
    PayloadPolicy,
    PayloadRule,
    StoredPayload,
    Treatment,
    store_bytes,
    store_json,
)
from tracker.embedded.postgres import EmbeddedPostgres

FULL = Handling(Treatment.FULL)


@pytest.fixture(scope="module")
def postgres(postgres_server: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        yield connection


def is_accepted(postgres: psycopg.Connection[Any], encoded: bytes) -> bool:
    """Whether Postgres takes these bytes as jsonb."""
    try:
        postgres.execute("SELECT %s::jsonb", [Json(None, dumps=lambda _: encoded)])
    except (psycopg.DataError, psycopg.errors.StatementTooComplex):
        return False
    return True


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


REFUSED = [
    b"",
    b"NaN",
    b"[-Infinity]",
    rb'"\u0000"',
    rb'{"\u0000":1}',
    rb'"\ud800"',
    rb'"\udc00\ud800"',
    rb'"\ud83d" "\ude00"',
    # The dict that Python makes of these no longer shows what Postgres stumbles over.
    rb'{"a":"\u0000","a":1}',
    rb'{"a":["\ud800"],"a":1}',
    b"1e200000",
    b"-1E+131072",
    b"1e-16384",
    b"9" * 140_000,
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'["\x00"]',
    b"\xef\xbb\xbf1",
    '"text"'.encode("utf-16"),
    b"\xc2\xa01",
    b"[1,]",
    b"01",
    b"'a'",
    nested(100_000),
]
KEPT = [
    b"null",
    b"-0.0",
    b"1e9999",
    b"[0.1e-9999]",
    rb'"\\u0000 \\ud800"',
    rb'"\ud83d\ude00"',
    '"naïve ☕ 🚀"'.encode(),
    '"\uffff\x7f"'.encode(),
    b'{"a":1,"a":2}',
    b'"' + b"[{" * 500 + b'"',
    nested(NESTING_MAX),
    # A UUID looks like a number with a large exponent, and an account number like a huge integer.
    b'["01a1f8f7-13ab-7ab3-9d6c-0e228391fc4e"]',
    b'"' + b"7" * 1000 + b'"',
    b'{"a":' * NESTING_MAX + b"1" + b"}" * NESTING_MAX,
]
# Postgres takes them, but we rather keep the bytes.
CAUTION = [b"1e+00010", nested(NESTING_MAX + 1)]

literals = st.sampled_from([*KEPT, *REFUSED, *CAUTION]) | st.binary(max_size=6)
strings = st.sampled_from(
    [b'"a"', b'"b"', rb'"\u0000"', rb'"\ud800"', rb'"\ud83d\ude00"', b'"\xed\xa0\x80"']
)
texts = st.recursive(
    literals | strings,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: b"[" + b",".join(parts) + b"]")
        | st.lists(st.tuples(strings, inner), max_size=3).map(
            lambda members: b"{" + b",".join(key + b":" + value for key, value in members) + b"}"
        )
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("encoded", REFUSED, ids=lambda encoded: repr(encoded[:24]))
def test_what_postgres_refuses_does_not_fit(
    postgres: psycopg.Connection[Any], encoded: bytes
) -> None:
    assert not is_accepted(postgres, encoded)
    assert not fits_jsonb(encoded)


@pytest.mark.parametrize("encoded", KEPT, ids=lambda encoded: repr(encoded[:24]))
def test_what_postgres_takes_fits(postgres: psycopg.Connection[Any], encoded: bytes) -> None:
    assert is_accepted(postgres, encoded)
    assert fits_jsonb(encoded)


@pytest.mark.parametrize("encoded", CAUTION, ids=lambda encoded: repr(encoded[:24]))
def test_what_only_looks_dangerous_is_kept_as_bytes(
    postgres: psycopg.Connection[Any], encoded: bytes
) -> None:
    assert is_accepted(postgres, encoded)
    stored = store_json(encoded, FULL, "input")
    assert stored is not None
    assert (stored.body, stored.data, stored.treatment) == (None, encoded, Treatment.FULL)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(encoded=texts)
@example(rb'[{"a":"\u0000","a":1}]')
def test_what_fits_is_never_refused(postgres: psycopg.Connection[Any], encoded: bytes) -> None:
    if fits_jsonb(encoded):
        assert is_accepted(postgres, encoded)


@settings(max_examples=200)
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    )
)
def test_ordinary_values_fit(value: Any) -> None:
    assert fits_jsonb(json.dumps(value).encode())
    assert fits_jsonb(json.dumps(value, ensure_ascii=False).encode())


def test_a_full_value_is_kept_with_its_digest_and_size() -> None:
    encoded = b'{"a":1}'
    assert store_json(encoded, FULL, "input") == StoredPayload(
        digest=sha256(encoded).digest(),
        size=7,
        treatment=Treatment.FULL,
        encoding="json/plain",
        body=encoded,
    )


def test_over_the_limit_only_a_mark_and_the_digest_stay() -> None:
    encoded = b'"' + b"x" * 100 + b'"'
    stored = store_json(encoded, Handling(Treatment.FULL, limit=101), "input")
    assert stored is not None
    assert (stored.treatment, stored.body, stored.data) == (Treatment.TOO_LARGE, None, None)
    assert (stored.size, stored.digest) == (102, sha256(encoded).digest())
    at_the_limit = store_json(encoded, Handling(Treatment.FULL, limit=102), "input")
    assert at_the_limit is not None
    assert at_the_limit.body == encoded


@pytest.mark.parametrize("treatment", [Treatment.NONE, Treatment.ENCODED])
def test_nothing_of_a_live_value_is_kept_under(treatment: Treatment) -> None:
    assert store_json(b"1", Handling(treatment), "input") is None


def test_a_digest_keeps_no_value() -> None:
    handling = Handling(Treatment.DIGEST)
    for stored in (
        store_json(b'"secret"', handling, "input"),
        store_bytes(b"secret", "x", handling, "input"),
    ):
        assert stored is not None
        assert (stored.treatment, stored.body, stored.data) == (Treatment.DIGEST, None, None)


def test_a_redacted_value_leaves_neither_the_clear_text_nor_its_digest() -> None:
    def without_card(value: Any) -> Any:
        return value | {"card": "***"}

    encoded = b'{"card":"4242","n":1}'
    stored = store_json(encoded, Handling(Treatment.REDACTED, redact=without_card), "input")
    assert stored is not None
    assert stored.body == b'{"card":"***","n":1}'
    assert stored.digest == sha256(stored.body).digest() != sha256(encoded).digest()
    assert stored.size == len(encoded)


def test_a_redaction_that_fails_or_is_missing_lets_nothing_through() -> None:
    def broken(value: Any) -> Any:
        raise ValueError(value)

    failed = store_json(b'"4242"', Handling(Treatment.REDACTED, redact=broken), "input")
    missing = store_json(b'"4242"', Handling(Treatment.REDACTED), "input")
    assert failed is not None
    assert missing is not None
    assert failed.body == b'"[redaction failed]"'
    assert missing.body == b'"[redacted]"'


def test_a_redaction_to_what_jsonb_refuses_is_kept_as_bytes() -> None:
    handling = Handling(Treatment.REDACTED, redact=lambda _: float("nan"))
    stored = store_json(b"1", handling, "input")
    assert stored is not None
    assert (stored.body, stored.data) == (None, b"NaN")


@pytest.mark.parametrize(
    ("treatment", "kept", "data"),
    [
        (Treatment.FULL, Treatment.FULL, b"\x00\x01"),
        (Treatment.ENCODED, Treatment.ENCODED, b"\x00\x01"),
        (Treatment.REDACTED, Treatment.DIGEST, None),
        (Treatment.DIGEST, Treatment.DIGEST, None),
    ],
)
def test_bytes_are_kept_as_they_are_and_never_redacted(
    treatment: Treatment, kept: Treatment, data: bytes | None
) -> None:
    handling = Handling(treatment, redact=lambda value: value)
    stored = store_bytes(b"\x00\x01", "binary/encrypted", handling, "input")
    assert stored is not None
    assert (stored.treatment, stored.data, stored.body) == (kept, data, None)
    assert stored.encoding == "binary/encrypted"


def test_bytes_obey_the_limit_and_none() -> None:
    large = store_bytes(b"x" * 11, "binary/plain", Handling(Treatment.FULL, limit=10), "output")
    assert large is not None
    assert (large.treatment, large.data) == (Treatment.TOO_LARGE, None)
    assert store_bytes(b"x", "binary/plain", Handling(Treatment.NONE), "output") is None


def test_the_first_rule_that_fits_decides() -> None:
    policy = PayloadPolicy(
        rules=[
            PayloadRule(Treatment.DIGEST, workflow_type="Order*", step="charge*"),
            PayloadRule(Treatment.NONE, workflow_type="Order*"),
        ]
    )
    assert policy.handling("OrderFulfilment", "charge-card").treatment is Treatment.DIGEST
    assert policy.handling("OrderFulfilment", "ship").treatment is Treatment.NONE
    # A rule about some steps does not speak about the run's own values.
    assert policy.handling("OrderFulfilment").treatment is Treatment.NONE
    assert policy.handling("EmailCampaign", "charge-card").treatment is Treatment.FULL


def test_with_a_codec_clear_text_is_kept_only_where_somebody_asked_for_it() -> None:
    silent, outspoken = PayloadPolicy(), PayloadPolicy(Treatment.FULL)
    assert silent.resolved(has_codec=True).handling("T").treatment is Treatment.ENCODED
    assert silent.resolved(has_codec=False).handling("T").treatment is Treatment.FULL
    assert outspoken.resolved(has_codec=True).handling("T").treatment is Treatment.FULL
    assert not silent.resolved(has_codec=True).handling("T").keeps_text
    assert FULL.keeps_text


@given(text=st.text(st.characters(), max_size=50), limit=st.integers(1, 40))
def test_cleaned_text_can_be_written_and_is_no_longer_than_the_limit(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert "\x00" not in cleaned
    assert len(cleaned) <= limit
    assert cleaned.encode().decode() == cleaned


def test_clean_text_leaves_what_is_clean() -> None:
    assert clean_text("naïve ☕ 🚀") == "naïve ☕ 🚀"
    assert clean_text("a\x00b\ud800c") == "a\N{REPLACEMENT CHARACTER}b?c"
    assert clean_text("abcdef", 4) == "abc…"
