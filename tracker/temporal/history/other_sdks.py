"""Markers of local activities as the SDKs for Go and Java write them, which do not stand on
Temporal's Rust core. Both call them `LocalActivity`, and put different details into them.

What a reader would get wrong: nobody records these runs live, so a call's ordinal need not be the
one that a worker would count; it is its place among the markers.

Sources: sdk-go `internal/internal_event_handlers.go` (`localActivityMarkerData`), sdk-java
`LocalActivityMarkerUtils` and `LocalActivityMarkerMetadata`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payloads
from temporalio.api.history.v1 import HistoryEvent

from tracker.temporal.history.reading import EPOCH, moment, parsed
from tracker.temporal.history.rounds import LocalCall, Round, chains
from tracker.temporal.history.state import Projection, own_json

MARKER = "LocalActivity"


def read_marker(projection: Projection, event: HistoryEvent) -> Round | None:
    """The round that a marker tells; None if it is not what those SDKs write."""
    attributes = event.marker_recorded_event_attributes
    details = attributes.details
    read = _read_java if "activityId" in details else _read_go
    try:
        told = read(projection, details)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    return Round(
        event_id=event.event_id,
        task_id=attributes.workflow_task_completed_event_id,
        recorded_at=moment(event.event_time),
        name=projection.summary(event),
        seq=len(projection.other_rounds) + 1,
        failure=attributes.failure if attributes.HasField("failure") else None,
        worker_identity=projection.task.worker_identity,
        **told,
    )


def calls_of(rounds: Sequence[Round]) -> list[LocalCall]:
    """The calls to which rounds belong, numbered in the order of their first markers."""
    return [LocalCall(n, chain) for n, chain in enumerate(chains(rounds), start=1)]


def _read_go(projection: Projection, details: Mapping[str, Payloads]) -> dict[str, Any]:
    data: dict[str, Any] = _json(projection, details, "data")
    backoff = int(data.get("Backoff") or 0)
    return {
        "attempt": int(data.get("Attempt") or 1),
        "activity_type": _text(data["ActivityType"]),
        "call_time": None,
        "backoff": timedelta(microseconds=backoff // 1000) if backoff > 0 else None,
        "completed_at": datetime.fromisoformat(_micros(str(data["ReplayTime"]))),
        "details": {"result": details["result"]} if "result" in details else {},
    }


def _read_java(projection: Projection, details: Mapping[str, Payloads]) -> dict[str, Any]:
    # All are asked for before any is looked at: behind a codec the first reading learns what to
    # decode.
    asked = ("type", "time", *(["meta"] if "meta" in details else []))
    read: dict[str, Any] = {name: _json(projection, details, name) for name in asked}
    meta: dict[str, Any] = read.get("meta") or {}
    backoff, first = meta.get("backoff"), meta.get("firstSkd")
    result = details.get("result", details.get("data"))
    values = {"input": details.get("input"), "result": result}
    return {
        "attempt": int(meta.get("atpt") or 1),
        "activity_type": _text(read["type"]),
        "call_time": None if first is None else (int(first), 0),
        "backoff": timedelta(milliseconds=int(backoff)) if backoff else None,
        "completed_at": EPOCH + timedelta(milliseconds=int(read["time"])),
        "details": {name: value for name, value in values.items() if value is not None},
    }


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no text")
    return value


def _json(projection: Projection, details: Mapping[str, Payloads], name: str) -> Any:
    return parsed(own_json(projection.clear, details[name].payloads[0]))


def _micros(text: str) -> str:
    """An RFC 3339 time with Go's nanoseconds, cut to what Python reads."""
    return _FRACTION.sub(lambda found: found[0][:7], text, count=1)


_FRACTION = re.compile(r"\.\d+")
