"""Small conversions from what protobuf history carries to what tracker events carry."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(timestamp: Timestamp) -> datetime:
    """A protobuf time, cut to the microsecond as the SDK cuts it, so that both sides agree."""
    return EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def run_key_of(text: str) -> UUID | None:
    """A run id; None where history leaves it out."""
    return UUID(text) if text else None


def parsed(text: bytes | None) -> Any:
    """A JSON value; None where there is none or it is broken."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


class ProtoEnum(Protocol):
    """A generated protobuf enum."""

    def Name(self, number: Any, /) -> str:
        """Name of a number; ValueError if this version does not know it."""
        ...


def enum_word(enum: ProtoEnum, number: int, prefix: str) -> str:
    """Name of an enum's value without its prefix; of one that a newer server made, its number."""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)
