"""Keyset cursors: where a list goes on, and which list it was.

Opaque to callers and unsigned on purpose: a forged cursor names a place in a list that its holder
may read anyway. The digest only turns a cursor of another query into a clear error.
"""

from __future__ import annotations

import binascii
import json
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from tracker.core.status import micros
from tracker.errors import InvalidRequest

_LAYOUT = struct.Struct(">q16s8s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Position:
    """The last entry of a page: the next one starts after it."""

    at: datetime
    id: UUID


def list_digest(name: str, namespace: str, filters: BaseModel) -> bytes:
    """Digest of everything that makes two lists the same list; not of the page.

    Args:
        name: Of the kind of list.
        filters: With `limit` and `cursor` among its fields.
    """
    asked = filters.model_dump(exclude={"limit", "cursor"}, exclude_defaults=True)
    text = json.dumps([name, namespace, asked], sort_keys=True, default=str)
    return sha256(text.encode()).digest()[:8]


def encode_cursor(row: Mapping[str, Any], digest: bytes, *, at: str = "ordered_at") -> str:
    """The cursor that goes on after a row.

    Args:
        row: Has `id` and the time column of the list's order.
        digest: From `list_digest`.
        at: Name of that column.
    """
    packed = _LAYOUT.pack(micros(row[at]), row["id"].bytes, digest)
    return urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(cursor: str, digest: bytes) -> Position:
    """Read a cursor of the list with this digest.

    Raises:
        InvalidRequest: It is no cursor, or one of another list.
    """
    try:
        packed = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        moment, key, of_list = _LAYOUT.unpack(packed)
        position = Position(_EPOCH + timedelta(microseconds=moment), UUID(bytes=key))
    except (UnicodeEncodeError, binascii.Error, struct.error, OverflowError):
        raise InvalidRequest(
            "expected cursor to be the next_cursor of an earlier answer", field="cursor"
        ) from None
    if of_list != digest:
        raise InvalidRequest(
            "this cursor belongs to a list with other filters or order; "
            "repeat the query that gave it, or start again without a cursor",
            field="cursor",
        )
    return position
