"""Values on their way into the `payload` table: what may be stored, and in which form.

A value is serialised when it is seen (users mutate objects later) and treated by policy before it
enters an event, so that buffer, spill file and database hold the same, already reduced form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import chain
from typing import Any, cast

DEFAULT_LIMIT = 256 * 1024
"""Bytes of one stored payload; larger ones leave a mark and their digest."""


class Treatment(StrEnum):
    """What is kept of a value."""

    FULL = "full"
    """The value itself."""
    REDACTED = "redacted"
    """What the rule's callable made of it."""
    DIGEST = "digest"
    """SHA-256 and size only."""
    NONE = "none"
    """Nothing."""
    ENCODED = "encoded"
    """Only the bytes that the payload codec made, taken from history; nothing live."""
    TOO_LARGE = "too_large"
    """Never asked for: the mark of a value over the size limit."""


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """One value in the form in which it is stored.

    Attributes:
        digest: SHA-256 of the encoded value as Temporal carries it.
        size: Its length in bytes.
        treatment: What was kept.
        encoding: `json/plain`, `binary/encrypted`, …: how `data` is to be read.
        body: JSON text that Postgres accepts as jsonb, or None.
        data: Raw bytes where jsonb cannot hold the value, or None.
    """

    digest: bytes
    size: int
    treatment: Treatment
    encoding: str
    body: bytes | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class PayloadRule:
    """Treatment of the values of some workflow types and steps; the first rule that fits decides.

    Args:
        treatment: What is kept.
        workflow_type: Shell pattern on the workflow type (`*`, `?`).
        step: Shell pattern on the step name; the run's own input, output and error match only `*`.
        redact: For `redacted`: gets the decoded JSON value, returns what may be stored.
    """

    treatment: Treatment
    workflow_type: str = "*"
    step: str = "*"
    redact: Callable[[Any], Any] | None = None

    def fits(self, workflow_type: str, step: str | None) -> bool:
        """Whether the rule speaks about this step, or about the run itself (step None)."""
        if not fnmatchcase(workflow_type, self.workflow_type):
            return False
        return self.step == "*" if step is None else fnmatchcase(step, self.step)


@dataclass(frozen=True, slots=True)
class PayloadPolicy:
    """What the tracker keeps of inputs, outputs, errors and metadata.

    Args:
        default: Treatment where no rule fits. None: `full`, or `encoded` with a payload codec.
        rules: First match wins.
        limit: Largest stored payload in bytes.
    """

    default: Treatment | None = None
    rules: Sequence[PayloadRule] = field(default=())
    limit: int = DEFAULT_LIMIT

    def resolved(self, *, has_codec: bool) -> PayloadPolicy:
        """The policy with its default settled: with a payload codec, clear text is not kept unless
        somebody asked for it."""
        if self.default is not None:
            return self
        default = Treatment.ENCODED if has_codec else Treatment.FULL
        return PayloadPolicy(default, self.rules, self.limit)

    def rule_for(self, workflow_type: str, step: str | None = None) -> PayloadRule:
        """The rule that decides about a step's values, or the run's own (step None)."""
        for rule in self.rules:
            if rule.fits(workflow_type, step):
                return rule
        return PayloadRule(self.default or Treatment.FULL)


def keeps_text(rule: PayloadRule) -> bool:
    """Whether error messages, stacks and metadata may be kept in clear under this rule."""
    return rule.treatment is Treatment.FULL


def store_json(encoded: bytes, rule: PayloadRule, limit: int) -> StoredPayload | None:
    """Treat a JSON-encoded value by a rule.

    Args:
        encoded: JSON text in UTF-8.
        rule: From `PayloadPolicy.rule_for`.
        limit: Bytes.

    Returns:
        The stored form; None where nothing may be kept.
    """
    if rule.treatment in (Treatment.NONE, Treatment.ENCODED):
        return None
    digest, size = sha256(encoded).digest(), len(encoded)
    if rule.treatment is Treatment.DIGEST:
        return StoredPayload(digest, size, Treatment.DIGEST, JSON)
    treatment, kept = rule.treatment, encoded
    if treatment is Treatment.REDACTED:
        kept = _redacted(encoded, rule)
        # The digest of the clear value would let anyone test guesses against it.
        digest = sha256(kept).digest()
    if len(kept) > limit:
        return StoredPayload(digest, size, Treatment.TOO_LARGE, JSON)
    if fits_jsonb(kept):
        return StoredPayload(digest, size, treatment, JSON, body=kept)
    return StoredPayload(digest, size, treatment, JSON, data=kept)


def store_bytes(data: bytes, encoding: str, rule: PayloadRule, limit: int) -> StoredPayload | None:
    """Treat a value that is not JSON: kept as bytes with its encoding, never redacted (a callable
    for JSON values cannot read it, so `redacted` keeps the digest only)."""
    if rule.treatment is Treatment.NONE:
        return None
    digest, size = sha256(data).digest(), len(data)
    if rule.treatment in (Treatment.DIGEST, Treatment.REDACTED):
        return StoredPayload(digest, size, Treatment.DIGEST, encoding)
    if size > limit:
        return StoredPayload(digest, size, Treatment.TOO_LARGE, encoding)
    return StoredPayload(digest, size, rule.treatment, encoding, data=data)


def fits_jsonb(encoded: bytes) -> bool:
    r"""Whether Postgres accepts the text as jsonb: well-formed JSON in UTF-8 without NaN or
    Infinity, ``\u0000``, lone surrogates, and numbers beyond `numeric` (131,072 digits), nested no
    deeper than those who read it can follow."""
    try:
        # Decoded first: json.loads itself would take UTF-16, a byte order mark and surrogates.
        text = encoded.decode()
        json.loads(text, parse_constant=_refuse)
        return not _is_suspicious(encoded) or _is_clean(text)
    except (ValueError, RecursionError):
        return False


def recordable(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries of a JSON object that a jsonb column takes. Others are left out: one odd value
    costs itself and not the facts beside it."""
    kept = {str(key): value for key, value in values.items()}
    return {key: value for key, value in kept.items() if is_recordable({key: value})}


def is_recordable(value: Any) -> bool:
    """Whether a JSON value fits a jsonb column and the batch that carries it there, which holds
    integers of 64 bits."""
    try:
        encoded = json.dumps(value, allow_nan=False).encode()
        if _LONG_INTEGER.search(encoded):
            json.loads(encoded, parse_int=_within_64_bits)
    except (TypeError, ValueError, RecursionError):
        return False
    return fits_jsonb(encoded)


JSON = "json/plain"

NESTING_MAX = 200
"""Levels of a stored JSON value. Postgres takes thousands, but pydantic and orjson stop at 255
when they write it out again, and Python's own parser where its stack ends."""

_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|[eE][+-]?\d{4}|\d{1000}")
_LONG_INTEGER = re.compile(rb"\d{19}")
_HUGE_NUMBER = re.compile(r"[eE][+-]?\d{5}|\d{1000}")


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _is_suspicious(encoded: bytes) -> bool:
    """Whether only a closer look can tell; cheap, for nearly no value is."""
    if encoded.count(b"[") + encoded.count(b"{") > NESTING_MAX:
        return True
    return _SUSPICIOUS.search(encoded) is not None


def _is_clean(text: str) -> bool:
    # As pairs: of a key that stands twice a dict keeps one value, Postgres looks at both. Numbers
    # as they are written, and only they: every other UUID has an "e" with digits after it.
    value = json.loads(text, object_pairs_hook=_Members, parse_float=_number, parse_int=_number)
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, str):
            if _UNFIT_CHARACTER.search(item):
                return False
        elif (parts := _parts(item)) is not None:
            if depth == NESTING_MAX:
                return False
            pending.extend((part, depth + 1) for part in parts)
    return True


def _within_64_bits(written: str) -> None:
    if not -(1 << 63) <= int(written) < 1 << 64:
        raise ValueError(written)


def _number(written: str) -> None:
    if _HUGE_NUMBER.search(written):
        raise ValueError(written)


def _parts(value: Any) -> Iterable[Any] | None:
    if isinstance(value, _Members):
        return chain.from_iterable(value)
    return cast("list[Any]", value) if isinstance(value, list) else None


class _Members(tuple[tuple[str, Any], ...]):
    """Of a JSON object, all of them."""

    __slots__ = ()


_UNFIT_CHARACTER = re.compile("[\x00\ud800-\udfff]")


def _redacted(encoded: bytes, rule: PayloadRule) -> bytes:
    if rule.redact is None:
        return b'"[redacted]"'
    try:
        return json.dumps(rule.redact(json.loads(encoded)), separators=(",", ":")).encode()
    except Exception:  # A user's callable that fails must not let the clear value through.
        return b'"[redaction failed]"'


def clean_text(text: str, limit: int = 64 * 1024) -> str:
    """Text that Postgres accepts: NUL and lone surrogates replaced, cut to `limit` characters."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"
