"""A Temporal payload codec with the keys that encrypt the tables, so that one ring serves both.

    ring = Keyring.from_text(os.environ["FLOWTRAIL_ENCRYPTION_KEYS"])
    converter = dataclasses.replace(pydantic_data_converter, payload_codec=EncryptionCodec(ring))

The layout is that of Temporal's own samples (`binary/encrypted`, `encryption-key-id`, nonce before
ciphertext), which codecs of its other SDKs follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from tracker.core.payloads import Sealed
from tracker.encryption import Keyring

ENCRYPTED = b"binary/encrypted"
KEY_ID = "encryption-key-id"
_NO_LABEL = b""


class EncryptionCodec(PayloadCodec):
    """Encrypts each payload with the ring's current key, and decrypts with whichever it names."""

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt payloads, metadata included."""
        return [self._encrypted(payload) for payload in payloads]

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Decrypt payloads; those that are not encrypted pass, as from before there was a codec.

        Raises:
            DecryptionFailed: A key is unknown or another one, or the bytes were changed.
        """
        return [self._decrypted(payload) for payload in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        key_id, data = self._ring.seal(payload.SerializeToString(), _NO_LABEL)
        return Payload(metadata={"encoding": ENCRYPTED, KEY_ID: key_id.encode()}, data=data)

    def _decrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCRYPTED:
            return payload
        key_id = payload.metadata.get(KEY_ID, b"").decode("utf-8", "replace")
        return Payload.FromString(self._ring.open(Sealed(key_id, payload.data), _NO_LABEL))
