"""Identities: refs, and the deterministic ids that make every write an idempotent upsert.

Derived ids look like UUIDv7 and borrow the time of the run's own id where it has one, so that rows
of one run lie together in an index. Never sort runs by them: run ids made by continue-as-new,
retry and reset carry no time (`run.ordered_at` is the order).
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from tracker.core.status import StepKind, micros
from tracker.errors import InvalidRequest

REF_TYPE_MAX = 100
REF_ID_MAX = 200
# Lone surrogates are refused too: they can be written neither as UTF-8 nor to Postgres.
_REF_TYPE = re.compile(r"[^/\x00-\x1f\x7f\ud800-\udfff]{1,100}\Z")
_REF_ID = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,200}\Z")


@dataclass(frozen=True, slots=True)
class Ref:
    """A typed link from a run to a business object, written `ref_type/ref_id`.

    Raises:
        InvalidRequest: If the type is empty, longer than 100 characters or has a `/`, if the id is
            empty or longer than 200, or if either has control characters or lone surrogates.
    """

    ref_type: str
    ref_id: str

    def __post_init__(self) -> None:
        if not _REF_TYPE.match(self.ref_type):
            raise InvalidRequest(
                f"expected ref_type to be 1-{REF_TYPE_MAX} characters without '/' or control "
                f"characters, got {self.ref_type!r}",
                field="ref_type",
            )
        if not _REF_ID.match(self.ref_id):
            raise InvalidRequest(
                f"expected ref_id to be 1-{REF_ID_MAX} characters without control characters, "
                f"got {self.ref_id!r}",
                field="ref_id",
            )

    def __str__(self) -> str:
        return f"{self.ref_type}/{self.ref_id}"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read `ref_type/ref_id`; the id may hold further slashes."""
        ref_type, slash, ref_id = text.partition("/")
        if not slash:
            raise InvalidRequest(f"expected a ref as ref_type/ref_id, got {text!r}", field="ref")
        return cls(ref_type, ref_id)


def new_id(now_ms: int | None = None) -> UUID:
    """A fresh UUIDv7.

    Args:
        now_ms: Milliseconds since 1970, for tests; default the clock.
    """
    moment = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return _v7(moment & _TIME_MASK, os.urandom(10))


def derived_run_id(namespace: str, run_key: UUID, first_run_key: UUID | None) -> UUID:
    """Public id of a run that we did not accept.

    Args:
        namespace: Temporal namespace.
        run_key: Temporal's run id.
        first_run_key: Run id of the first run of its chain; lends its time when `run_key` has none.
    """
    hint = first_run_key if run_key.version != 7 and first_run_key is not None else run_key
    return _derived(hint, "run", namespace, str(run_key))


def external_run_id(namespace: str, own_id: str) -> UUID:
    """Public id of an externally driven run: its owner's id of it, where that is a UUID."""
    try:
        given = UUID(own_id)
    except ValueError:
        given = None
    if given is not None and str(given) == own_id:
        return given
    return _derived(_NO_TIME, "external", namespace, own_id)


def workflow_lane(namespace: str, workflow_id: str) -> UUID:
    """Stands in the place of a run's id for signals that are addressed to a workflow id."""
    return _v7(0, _entropy("lane", namespace, workflow_id))


def step_id(namespace: str, run_key: UUID, kind: StepKind, step_key: str) -> UUID:
    """Id of a step; `step_key` comes from the `*_key` function of its kind."""
    return _derived(run_key, "step", namespace, str(run_key), kind, step_key)


def keyed_bulk_id(namespace: str, key: str) -> UUID:
    """Id of a bulk action that was asked for under an idempotency key."""
    return _derived(_NO_TIME, "bulk", namespace, key)


def bulk_deed_id(bulk_id: UUID, run_id: UUID) -> UUID:
    """Request id of what a bulk action does to one run: the same in every try."""
    return _derived(bulk_id, "bulk-deed", str(bulk_id), str(run_id))


def attempt_id(step: UUID, attempt_key: str) -> UUID:
    """Id of an attempt; `attempt_key` comes from `started_key` or `ordinal_key`."""
    return _derived(step, "attempt", str(step), attempt_key)


def payload_id(owner: UUID, role: str, digest: bytes, moment: datetime) -> UUID:
    """Id of a stored payload: the same value for the same place is stored once.

    Args:
        owner: The run or step that it belongs to.
        role: `input` or `output`.
        digest: SHA-256 of the encoded value.
        moment: Server time of the value; its month is the payload's partition. Cut to the hour: a
            worker and history may date the same value a little apart.
    """
    entropy = _entropy("payload", str(owner), role, digest.hex())
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return _v7(micros(hour) // 1000, entropy)


def moment_of(id_: UUID) -> datetime:
    """The time that a UUIDv7-shaped id carries."""
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)


def activity_key(activity_id: str, scheduled_at: datetime) -> str:
    """Step key of an activity. Activity ids may repeat within a run; the server's schedule time,
    which worker and history know to the same microsecond, tells them apart."""
    return f"{activity_id}@{micros(scheduled_at)}"


def local_activity_key(ordinal: int) -> str:
    """Step key of a local activity: its number in the run, counted in replay too. Beyond the local
    retry threshold Temporal gives each backoff a new activity id; the ordinal stays."""
    return f"local:{ordinal}"


def event_key(event_id: int) -> str:
    """Step key of what only history names (timers, signals, Nexus operations)."""
    return f"event:{event_id}"


def started_key(started_at: datetime) -> str:
    """Attempt key: the server's start time (numbers restart when an activity is reset)."""
    return str(micros(started_at))


def ordinal_key(number: int) -> str:
    """Attempt key of a local activity: its number, the one thing worker and history share."""
    return f"n{number}"


_NO_TIME = UUID(int=0)
_TIME_MASK = (1 << 48) - 1
_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62


def _derived(hint: UUID, *parts: str) -> UUID:
    digest = _entropy(*parts)
    moment = hint.int >> 80 if hint.version == 7 else int.from_bytes(digest[10:16], "big")
    return _v7(moment, digest)


def _entropy(*parts: str) -> bytes:
    return sha256("\x1f".join(parts).encode()).digest()


def _v7(moment_ms: int, entropy: bytes) -> UUID:
    # RFC 9562 §5.7: 48 bits of time, version, 12 random bits, variant, 62 random bits.
    bits = int.from_bytes(entropy[:10], "big")
    random_a = (bits >> 62) & 0xFFF
    random_b = bits & ((1 << 62) - 1)
    return UUID(int=moment_ms << 80 | _VERSION_7 | random_a << 64 | _VARIANT | random_b)
