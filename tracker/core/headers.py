"""The one header by which a workflow tells an activity's worker what Temporal does not.

An activity's worker knows the run id and nothing else of the run: the step's name, a local
activity's ordinal, own delays, ref and our run id travel here. Whoever reads it must survive any
content: other versions and other people write headers too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from tracker.core.ids import Ref
from tracker.core.memo import read_memo
from tracker.core.retries import Retry
from tracker.errors import InvalidRequest

HEADER = "flowtrail"
"""Key of the header; its payload is `json/plain`, whatever data converter the user has."""

STEP_NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says; every part may be absent.

    Attributes:
        step: Name of the step, where it is not the activity type.
        ordinal: Number of a local activity within its run, from 1.
        retry: Set only if the activity's worker must tell the server each delay
            (`Retry.needs_own_delays`).
        ref: Primary ref of the run.
        run_id: Our id of the run.
        asked_at: Server time at which a local activity was asked for, microseconds since 1970.
    """

    step: str | None = None
    ordinal: int | None = None
    retry: Retry | None = None
    ref: Ref | None = None
    run_id: UUID | None = None
    asked_at: int | None = None

    def encode(self) -> bytes:
        """JSON text; absent parts are left out."""
        content: dict[str, Any] = {}
        if self.step is not None:
            content["step"] = self.step
        if self.ordinal is not None:
            content["ordinal"] = self.ordinal
        if self.retry is not None:
            content["retry"] = self.retry.to_json()
        if self.ref is not None:
            content |= {"ref_type": self.ref.ref_type, "ref_id": self.ref.ref_id}
        if self.run_id is not None:
            content["run_id"] = str(self.run_id)
        if self.asked_at is not None:
            content["asked_at"] = self.asked_at
        return json.dumps(content, separators=(",", ":")).encode()


def read_header(data: bytes | None) -> Header:
    """Read the header's payload data. Each unreadable part counts as absent; never raises."""
    content = _json_object(data)
    return Header(
        step=_name(content.get("step")),
        ordinal=_ordinal(content.get("ordinal")),
        retry=_retry(content.get("retry")),
        ref=read_memo(content).ref,  # The same two keys as in the memo field.
        run_id=_uuid(content.get("run_id")),
        asked_at=_ordinal(content.get("asked_at")),
    )


def is_step_name(value: object) -> bool:
    """Whether a value can name a step: 1-200 printable characters."""
    return isinstance(value, str) and 0 < len(value) <= STEP_NAME_MAX and value.isprintable()


def _json_object(data: bytes | None) -> Mapping[str, Any]:
    try:
        content: object = json.loads(data) if data else None
    except (ValueError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", content) if isinstance(content, dict) else {}


def _name(value: Any) -> str | None:
    return value if is_step_name(value) else None


def _ordinal(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _retry(value: Any) -> Retry | None:
    if not isinstance(value, dict):
        return None
    try:
        return Retry.from_json(cast("Mapping[str, Any]", value))
    except InvalidRequest:
        return None


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
