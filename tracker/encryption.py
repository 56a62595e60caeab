"""Encryption of stored values: AES-256-GCM (NIST SP 800-38D) with keys that have ids and rotate.

What a reader gets wrong: besides the keys a ring has a digest key, which never rotates. Ids and
digests of values are made with it; with a plain hash anyone could test guesses of a value against
them, encrypted or not.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracker.core.payloads import Sealed
from tracker.errors import ConfigurationError, DecryptionFailed

KEY_BYTES = 32
NONCE_BYTES = 12
"""Random ones, so a key seals 2**32 values at most (SP 800-38D, section 8.3): rotate it before."""
DIGEST = "digest"
"""Id of the digest key in a ring's text."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys by id. It seals with the current one and opens with any.

    Args:
        keys: Id to 32 bytes.
        current: Id of the key that seals.
        digest_key: 32 bytes.

    Raises:
        ConfigurationError: A key has another length, an id other characters, or the package
            `cryptography` is missing.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    current: str
    digest_key: bytes = field(repr=False)
    _ciphers: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.current not in self.keys:
            raise ConfigurationError(f"the ring has no key {self.current!r}")
        for key_id, key in {**self.keys, DIGEST: self.digest_key}.items():
            if not _ID.match(key_id):
                raise ConfigurationError(
                    f"expected a key's id to be 1-64 letters, digits, '.', '_' or '-', "
                    f"got {key_id!r}"
                )
            if len(key) != KEY_BYTES:
                raise ConfigurationError(
                    f"expected key {key_id!r} to have {KEY_BYTES} bytes, it has {len(key)}"
                )
        if len({*self.keys.values(), self.digest_key}) <= len(self.keys):
            raise ConfigurationError("two keys of the ring are the same")
        cipher = _cipher_type()
        ciphers = {key_id: cipher(key) for key_id, key in self.keys.items()}
        object.__setattr__(self, "_ciphers", ciphers)

    @classmethod
    def from_text(cls, text: str) -> Keyring:
        """Read a ring from `id:base64,id:base64,digest:base64`; the first key is the current one.

        Raises:
            ConfigurationError: It is none.
        """
        keys: dict[str, bytes] = {}
        for entry in text.split(","):
            key_id, colon, encoded = entry.strip().partition(":")
            if not colon or key_id in keys:
                raise ConfigurationError(
                    "expected encryption keys as id:base64,…,digest:base64 with each id once; "
                    "`flowtrail payloads new-key` makes them"
                )
            try:
                keys[key_id] = b64decode(encoded, validate=True)
            except ValueError as error:
                raise ConfigurationError(f"key {key_id!r} is not base64") from error
        digest_key = keys.pop(DIGEST, None)
        if digest_key is None or not keys:
            raise ConfigurationError(
                f"expected one encryption key at least, and one called {DIGEST!r}; "
                "`flowtrail payloads new-key` makes them"
            )
        return cls(keys, next(iter(keys)), digest_key)

    def text(self) -> str:
        """The ring as `from_text` reads it; a secret."""
        ids = [self.current, *(key_id for key_id in self.keys if key_id != self.current)]
        entries = [(key_id, self.keys[key_id]) for key_id in ids] + [(DIGEST, self.digest_key)]
        return ",".join(f"{key_id}:{b64encode(key).decode()}" for key_id, key in entries)

    def with_key(self, key_id: str) -> Keyring:
        """The ring and a new random key, which does not seal yet (`using`).

        Raises:
            ConfigurationError: The ring has a key of that id, or it is none.
        """
        if key_id in self.keys or key_id == DIGEST:
            raise ConfigurationError(f"the ring has a key {key_id!r}; choose another id")
        keys = {**self.keys, key_id: os.urandom(KEY_BYTES)}
        return Keyring(keys, self.current, self.digest_key)

    def using(self, key_id: str) -> Keyring:
        """The ring with another current key."""
        return Keyring(self.keys, key_id, self.digest_key)

    def digest(self, clear: bytes) -> bytes:
        """HMAC-SHA256 with the digest key."""
        return hmac.digest(self.digest_key, clear, "sha256")

    def seal(self, clear: bytes, label: bytes) -> Sealed:
        """Encrypt with the current key.

        Args:
            label: What belongs to the value and is not secret; with another one it does not open.

        Returns:
            The key's id, and nonce, ciphertext and tag in one.
        """
        nonce = os.urandom(NONCE_BYTES)
        ciphertext: bytes = self._ciphers[self.current].encrypt(nonce, clear, label)
        return Sealed(self.current, nonce + ciphertext)

    def open(self, sealed: Sealed, label: bytes) -> bytes:
        """The clear bytes.

        Raises:
            DecryptionFailed: The key is unknown or another one, or the bytes were changed.
        """
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise DecryptionFailed(
                f"a value is encrypted with key {sealed.key_id!r}, which is not among the "
                f"encryption keys: {', '.join(self.keys)}",
                key_id=sealed.key_id,
            )
        nonce, ciphertext = sealed.data[:NONCE_BYTES], sealed.data[NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, ciphertext, label)
        except Exception as error:  # InvalidTag, or ValueError for what is too short.
            raise DecryptionFailed(
                f"a value cannot be decrypted with key {sealed.key_id!r}: another key has this id, "
                "or the stored bytes were changed",
                key_id=sealed.key_id,
            ) from error


def new_keyring(key_id: str) -> Keyring:
    """A ring of one random key, and a digest key."""
    return Keyring({key_id: os.urandom(KEY_BYTES)}, key_id, os.urandom(KEY_BYTES))


def _cipher_type() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigurationError(
            "encryption needs the package cryptography: pip install 'flowtrail[encryption]'"
        ) from error
    return AESGCM
