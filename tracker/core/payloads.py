"""Values on their way into the `payload` table: what may be stored, and in which form.

A value is serialised when it is seen (users mutate objects later), and is redacted and sealed
before it enters an event, so that buffer, spill file and database hold the same, reduced form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Literal, NamedTuple, Protocol

from tracker.core.jsonb import fits_jsonb
from tracker.core.redaction import FAILED, REDACTED, Redaction
from tracker.core.status import StepKind

DEFAULT_LIMIT = 256 * 1024
"""Bytes of one stored payload; larger ones leave a mark and their digest."""
JSON = "json/plain"

Role = Literal["input", "output"]


class Treatment(StrEnum):
    """What is kept of a value."""

    FULL = "full"
    """The value itself."""
    REDACTED = "redacted"
    """What the rule's callable, or the marks in its type, left of it."""
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
        digest: SHA-256 of the encoded value as Temporal carries it; of a redacted one, of what is
            left; keyed (`Sealer.digest`) where values are sealed.
        size: Length in bytes of the encoded value.
        treatment: What was kept.
        encoding: `json/plain`, `binary/encrypted`, …: how the kept bytes are to be read.
        body: JSON text that Postgres accepts as jsonb, or None.
        data: Raw bytes where jsonb cannot hold the value, sealed ones, or None.
        key_id: Key with which `data` is sealed; None: it is not.
    """

    digest: bytes
    size: int
    treatment: Treatment
    encoding: str
    body: bytes | None = None
    data: bytes | None = None
    key_id: str | None = None


class Sealed(NamedTuple):
    """Encrypted bytes and the key's id."""

    key_id: str
    data: bytes


class Sealer(Protocol):
    """Encrypts what is stored; see `tracker.encryption.Keyring`."""

    def digest(self, clear: bytes) -> bytes:
        """A keyed digest: without the key nobody can test guesses of the value against it."""
        ...

    def seal(self, clear: bytes, label: bytes) -> Sealed:
        """Encrypt with the current key; opens only with the same label."""
        ...


class Opener(Protocol):
    """Reads what a `Sealer` sealed."""

    def open(self, sealed: Sealed, label: bytes) -> bytes:
        """The clear bytes.

        Raises:
            DecryptionFailed: The key is unknown or another one, or the bytes were changed.
        """
        ...


class Marks(NamedTuple):
    """What the types of an input and an output mark with `Redact`; None: nothing."""

    input: Redaction | None = None
    output: Redaction | None = None

    def of(self, role: Role) -> Redaction | None:
        """What redacts the one or the other."""
        return self.input if role == "input" else self.output


NO_MARKS = Marks()
MarksByType = Mapping[tuple[StepKind | None, str], Marks]
"""By kind and type: an activity's, a child's; of a run itself the kind is None; of signals and
updates `<workflow type>.<name>`."""


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
    redact: Redaction | None = None

    def fits(self, workflow_type: str, step: str | None) -> bool:
        """Whether the rule speaks about this step, or about the run itself (step None)."""
        if not fnmatchcase(workflow_type, self.workflow_type):
            return False
        return self.step == "*" if step is None else fnmatchcase(step, self.step)


@dataclass(frozen=True, slots=True)
class Handling:
    """What is done to the values of one step, or of a run itself.

    Attributes:
        treatment: What is kept.
        redact: Of the rule that decided.
        limit: Largest stored payload in bytes.
        marks: In their types; redacted under every treatment that keeps clear values.
        sealer: Encrypts what is kept in clear; None: nothing does.
    """

    treatment: Treatment
    redact: Redaction | None = None
    limit: int = DEFAULT_LIMIT
    marks: Marks = NO_MARKS
    sealer: Sealer | None = None

    @property
    def keeps_text(self) -> bool:
        """Whether error messages, stacks and metadata may be kept in clear."""
        return self.treatment is Treatment.FULL


@dataclass(frozen=True, slots=True)
class PayloadPolicy:
    """What the tracker keeps of inputs, outputs, errors and metadata.

    Args:
        default: Treatment where no rule fits. None: `full`, or `encoded` with a payload codec.
        rules: First match wins.
        limit: Largest stored payload in bytes.
        marks: What the types of workflows and activities mark with `Redact`; from
            `tracker.temporal.marks.marks_of`.
        sealer: Encrypts what is kept of values; `tracker.encryption.Keyring` does.
    """

    default: Treatment | None = None
    rules: Sequence[PayloadRule] = field(default=())
    limit: int = DEFAULT_LIMIT
    marks: MarksByType = field(default_factory=dict[tuple[StepKind | None, str], Marks])
    sealer: Sealer | None = None

    def resolved(self, *, has_codec: bool) -> PayloadPolicy:
        """The policy with its default settled: with a payload codec, clear text is not kept unless
        somebody asked for it."""
        if self.default is not None:
            return self
        return replace(self, default=Treatment.ENCODED if has_codec else Treatment.FULL)

    def handling(
        self,
        workflow_type: str,
        step: str | None = None,
        kind: StepKind | None = None,
        type_: str | None = None,
    ) -> Handling:
        """What to do to the values of a step, or the run's own.

        Args:
            step: Its name; None: the run itself.
            kind, type_: Of the step, where a type of it may be known.
        """
        rule = self._rule(workflow_type, step)
        name = type_ or step or workflow_type
        if kind in (StepKind.SIGNAL, StepKind.UPDATE):
            name = f"{workflow_type}.{name}"
        return Handling(
            treatment=rule.treatment,
            redact=rule.redact,
            limit=self.limit,
            marks=self.marks.get((kind, name), NO_MARKS),
            sealer=self.sealer,
        )

    def _rule(self, workflow_type: str, step: str | None) -> PayloadRule:
        for rule in self.rules:
            if rule.fits(workflow_type, step):
                return rule
        return PayloadRule(self.default or Treatment.FULL)


def store_json(encoded: bytes, handling: Handling, role: Role) -> StoredPayload | None:
    """The stored form of a JSON-encoded value.

    Args:
        encoded: JSON text in UTF-8.
        role: An argument list as one array (`input`), or a result.

    Returns:
        None where nothing may be kept.
    """
    if handling.treatment in (Treatment.NONE, Treatment.ENCODED):
        return None
    size = len(encoded)
    if handling.treatment is Treatment.DIGEST:
        return StoredPayload(_digest(encoded, handling), size, Treatment.DIGEST, JSON)
    treatment, kept = _redacted(encoded, handling, role)
    # Of what is left: a digest of the clear value would let anyone test guesses against it.
    digest = _digest(kept, handling)
    if len(kept) > handling.limit:
        return StoredPayload(digest, size, Treatment.TOO_LARGE, JSON)
    stored = StoredPayload(digest, size, treatment, JSON, data=kept)
    if handling.sealer is not None:
        return _sealed(stored, handling.sealer)
    return replace(stored, body=kept, data=None) if fits_jsonb(kept) else stored


def store_bytes(data: bytes, encoding: str, handling: Handling, role: Role) -> StoredPayload | None:
    """The stored form of a value that is not JSON: kept as bytes with its encoding, never redacted
    (what redacts JSON values cannot read it, so the digest only is kept)."""
    treatment, size = handling.treatment, len(data)
    if treatment is Treatment.NONE:
        return None
    digest = _digest(data, handling)
    is_redacted = handling.marks.of(role) is not None and treatment is not Treatment.ENCODED
    if is_redacted or treatment in (Treatment.DIGEST, Treatment.REDACTED):
        return StoredPayload(digest, size, Treatment.DIGEST, encoding)
    if size > handling.limit:
        return StoredPayload(digest, size, Treatment.TOO_LARGE, encoding)
    stored = StoredPayload(digest, size, treatment, encoding, data=data)
    if handling.sealer is None or treatment is Treatment.ENCODED:
        return stored
    return _sealed(stored, handling.sealer)


def label_of(digest: bytes, treatment: str, encoding: str) -> bytes:
    """What a sealed value is bound to: with another row's facts it does not open."""
    return b"\x00".join([digest, treatment.encode(), encoding.encode()])


def _sealed(stored: StoredPayload, sealer: Sealer) -> StoredPayload:
    assert stored.data is not None
    label = label_of(stored.digest, stored.treatment, stored.encoding)
    key_id, data = sealer.seal(stored.data, label)
    return replace(stored, data=data, key_id=key_id)


def _digest(kept: bytes, handling: Handling) -> bytes:
    return sha256(kept).digest() if handling.sealer is None else handling.sealer.digest(kept)


def _redacted(encoded: bytes, handling: Handling, role: Role) -> tuple[Treatment, bytes]:
    marks = handling.marks.of(role)
    by_rule = handling.treatment is Treatment.REDACTED
    if marks is None and not by_rule:
        return handling.treatment, encoded
    if by_rule and handling.redact is None:
        return Treatment.REDACTED, json.dumps(REDACTED).encode()
    try:
        value = json.loads(encoded)
        for redact in (marks, handling.redact if by_rule else None):
            value = value if redact is None else redact(value)
        kept = json.dumps(value, separators=(",", ":")).encode()
    except Exception:
        kept = json.dumps(FAILED).encode()
    return Treatment.REDACTED, kept
