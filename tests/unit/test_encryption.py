"""Key rings: what opens, and above all what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from tracker.core.payloads import (
    Handling,
    Marks,
    Sealed,
    Treatment,
    label_of,
    store_bytes,
    store_json,
)
from tracker.core.redaction import Redact
from tracker.encryption import Keyring, new_keyring
from tracker.errors import ConfigurationError, DecryptionFailed
from tracker.temporal.encryption_codec import EncryptionCodec

OLD, NEW, DIGEST = b"o" * 32, b"n" * 32, b"d" * 32
RING = Keyring({"old": OLD}, "old", DIGEST)
ROTATED = Keyring({"new": NEW, "old": OLD}, "new", DIGEST)


@given(clear=st.binary(max_size=100), label=st.binary(max_size=20))
def test_what_was_sealed_opens_with_its_label(clear: bytes, label: bytes) -> None:
    sealed = RING.seal(clear, label)
    assert sealed.key_id == "old"
    assert len(sealed.data) == 12 + len(clear) + 16
    assert RING.open(sealed, label) == clear
    assert ROTATED.open(sealed, label) == clear


def test_two_seals_of_one_value_differ_and_their_digest_does_not() -> None:
    assert RING.seal(b"x", b"").data != RING.seal(b"x", b"").data
    assert RING.digest(b"x") == ROTATED.digest(b"x") != Keyring({"a": OLD}, "a", NEW).digest(b"x")


@pytest.mark.parametrize(
    ("ring", "key_id", "flip", "label", "says"),
    [
        (Keyring({"new": NEW}, "new", DIGEST), "old", None, b"l", "not among the encryption keys"),
        (Keyring({"old": NEW}, "old", DIGEST), "old", None, b"l", "another key has this id"),
        (RING, "old", None, b"other", "stored bytes were changed"),
        (RING, "old", 0, b"l", "stored bytes were changed"),
        (RING, "old", 13, b"l", "stored bytes were changed"),
        (RING, "old", -1, b"l", "stored bytes were changed"),
        (ROTATED, "new", None, b"l", "stored bytes were changed"),
    ],
    ids=["unknown key", "wrong key", "other label", "nonce", "ciphertext", "tag", "other id"],
)
def test_what_must_not_open(
    ring: Keyring, key_id: str, flip: int | None, label: bytes, says: str
) -> None:
    data = bytearray(RING.seal(b"clear text", b"l").data)
    if flip is not None:
        data[flip] ^= 1
    with pytest.raises(DecryptionFailed, match=says) as caught:
        ring.open(Sealed(key_id, bytes(data)), label)
    assert caught.value.details["key_id"] == key_id


@pytest.mark.parametrize("data", [b"", b"x" * 5, b"x" * 12])
def test_a_stump_does_not_open(data: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        RING.open(Sealed("old", data), b"")


def test_a_ring_goes_through_text() -> None:
    again = Keyring.from_text(ROTATED.text())
    assert again == ROTATED
    assert Keyring.from_text(f" {RING.text()} ".replace(",", " , ")) == RING
    assert "bbbb" not in repr(ROTATED)
    assert repr(OLD) not in repr(ROTATED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "id:base64"),
        ("old", "id:base64"),
        ("old:!!", "'old' is not base64"),
        ("old:YQ==,digest:YQ==", "32 bytes, it has 1"),
        (RING.text().split(",")[0], "called 'digest'"),
        (RING.text().split(",")[1], "one encryption key at least"),
        (RING.text() + "," + RING.text(), "each id once"),
        (RING.text().replace("old", "o d"), "letters, digits"),
        (RING.text() + "," + RING.text().split(",")[0].replace("old", "new"), "are the same"),
    ],
)
def test_what_is_no_ring(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Keyring.from_text(text)


def test_a_new_key_is_known_before_it_is_used() -> None:
    ring = new_keyring("one")
    known = ring.with_key("two")
    assert (known.current, list(known.keys)) == ("one", ["one", "two"])
    used = known.using("two")
    assert known.open(used.seal(b"x", b""), b"") == b"x"
    assert used.digest(b"x") == ring.digest(b"x")
    for taken in ("one", "digest"):
        with pytest.raises(ConfigurationError, match="choose another id"):
            known.with_key(taken).using(taken)


# Stored values


def test_a_stored_value_is_sealed_with_its_facts() -> None:
    stored = store_json(b'{"a":1}', Handling(Treatment.FULL, sealer=RING), "input")
    assert stored is not None
    assert (stored.treatment, stored.body, stored.key_id) == (Treatment.FULL, None, "old")
    assert stored.size == 7
    assert stored.digest == RING.digest(b'{"a":1}')
    assert stored.data is not None
    label = label_of(stored.digest, stored.treatment, stored.encoding)
    assert RING.open(Sealed("old", stored.data), label) == b'{"a":1}'


def test_what_jsonb_would_refuse_and_bytes_are_sealed_too() -> None:
    for stored in (
        store_json(b"NaN", Handling(Treatment.FULL, sealer=RING), "output"),
        store_bytes(b"\x00", "binary/plain", Handling(Treatment.FULL, sealer=RING), "output"),
    ):
        assert stored is not None
        assert stored.key_id == "old"
        assert stored.data not in (b"NaN", b"\x00")


def test_digests_are_keyed_and_nothing_else_is_kept() -> None:
    handling = Handling(Treatment.DIGEST, sealer=RING)
    for stored in (
        store_json(b"1", handling, "input"),
        store_bytes(b"1", "binary/plain", handling, "input"),
    ):
        assert stored is not None
        assert (stored.digest, stored.data, stored.key_id) == (RING.digest(b"1"), None, None)


def test_what_a_codec_encrypted_is_not_encrypted_again() -> None:
    handling = Handling(Treatment.ENCODED, sealer=RING)
    stored = store_bytes(b"\x01", "binary/encrypted", handling, "input")
    assert stored is not None
    assert (stored.data, stored.key_id) == (b"\x01", None)


def test_marked_values_that_are_not_json_leave_their_digest_only() -> None:
    marks = Marks(input=Redact())
    marked = Handling(Treatment.FULL, marks=marks)
    stored = store_bytes(b"x", "binary/payloads", marked, "input")
    assert stored is not None
    assert (stored.treatment, stored.data) == (Treatment.DIGEST, None)
    result = store_bytes(b"x", "binary/plain", marked, "output")
    assert result is not None
    assert result.data == b"x"


# The codec


async def test_the_codec_shares_the_ring_and_lets_what_is_clear_pass() -> None:
    clear = Payload(metadata={"encoding": b"json/plain", "x": b"y"}, data=b'"secret"')
    [encrypted] = await EncryptionCodec(RING).encode([clear])
    assert encrypted.metadata == {"encoding": b"binary/encrypted", "encryption-key-id": b"old"}
    assert b"secret" not in encrypted.data
    assert await EncryptionCodec(ROTATED).decode([encrypted, clear]) == [clear, clear]


async def test_the_codec_refuses_a_wrong_key() -> None:
    [encrypted] = await EncryptionCodec(RING).encode([Payload(data=b"x")])
    with pytest.raises(DecryptionFailed, match="another key has this id"):
        await EncryptionCodec(Keyring({"old": NEW}, "old", DIGEST)).decode([encrypted])
