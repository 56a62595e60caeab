"""Temporal payloads in the form in which they are stored; the same bytes from a live value and from
history, so that both sides name the same stored payload.

An argument list is one JSON array, built from the arguments' own bytes; a result is the value
itself. What is not JSON is kept as protobuf or raw bytes. Under the treatment `encoded` only what a
codec made is kept, never a payload whose encoding shows that it is clear.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadConverter

from tracker.core.payloads import Handling, Role, StoredPayload, Treatment, store_bytes, store_json

logger = logging.getLogger(__name__)

PAYLOADS = "binary/payloads"
"""Encoding of stored bytes that are a serialised `temporal.api.common.v1.Payloads`: an argument
list that is not all JSON, or a result whose metadata says more than its encoding (a codec needs
that to decode it)."""

_JSON = frozenset({b"json/plain", b"json/protobuf"})
_NULL = b"binary/null"
_CLEAR = _JSON | {_NULL, b"binary/plain", b"binary/protobuf"}


def stored_from_proto(source: Payloads | Payload, handling: Handling) -> StoredPayload | None:
    """The stored form of what history or a request carries.

    Args:
        source: `Payloads` is an argument list, `Payload` a single result.
        handling: From `PayloadPolicy.handling`.

    Returns:
        None where there is nothing (no arguments, a null result) or nothing may be kept.
    """
    if isinstance(source, Payload):
        return _stored_result(source, handling)
    return _stored_arguments(source.payloads, handling)


def stored_input_from_values(
    values: Sequence[Any], converter: PayloadConverter, handling: Handling
) -> StoredPayload | None:
    """The stored form of arguments as an interceptor sees them; see `stored_from_proto`."""
    payloads = _converted(values, converter, handling)
    return _stored_arguments(payloads, handling)


def stored_output_from_value(
    value: Any, converter: PayloadConverter, handling: Handling
) -> StoredPayload | None:
    """The stored form of a result as an interceptor sees it; see `stored_from_proto`."""
    payloads = _converted([value], converter, handling)
    return _stored_result(payloads[0], handling) if payloads else None


def json_of(payload: Payload) -> bytes | None:
    """JSON text of a payload that is not behind a codec; None if it is not JSON."""
    encoding = payload.metadata.get("encoding")
    if encoding in _JSON:
        return payload.data
    return b"null" if encoding == _NULL else None


def _converted(
    values: Sequence[Any], converter: PayloadConverter, handling: Handling
) -> Sequence[Payload]:
    if not values or handling.treatment in (Treatment.NONE, Treatment.ENCODED):
        return ()
    try:
        return converter.to_payloads(values)
    except Exception:  # A user's converter may refuse what it decoded; history has the bytes.
        logger.debug("value not convertible", exc_info=True, extra={"event": "payload.skipped"})
        return ()


def _stored_arguments(payloads: Sequence[Payload], handling: Handling) -> StoredPayload | None:
    if not payloads:
        return None
    parts: list[bytes] = []
    for payload in payloads:
        part = json_of(payload)
        if part is None:
            return _stored_whole(payloads, handling, "input")
        parts.append(part)
    return store_json(b"[" + b",".join(parts) + b"]", handling, "input")


def _stored_result(payload: Payload, handling: Handling) -> StoredPayload | None:
    encoding = payload.metadata.get("encoding", b"")
    if encoding in _JSON:
        return store_json(payload.data, handling, "output")
    if encoding == _NULL:
        return None
    if len(payload.metadata) > 1 or payload.external_payloads:
        return _stored_whole([payload], handling, "output")
    if handling.treatment is Treatment.ENCODED and encoding in _CLEAR:
        return None
    return store_bytes(payload.data, encoding.decode("utf-8", "replace"), handling, "output")


def _stored_whole(
    payloads: Sequence[Payload], handling: Handling, role: Role
) -> StoredPayload | None:
    if handling.treatment is Treatment.ENCODED and any(map(_is_clear, payloads)):
        return None
    whole = Payloads(payloads=payloads).SerializeToString(deterministic=True)
    return store_bytes(whole, PAYLOADS, handling, role)


def _is_clear(payload: Payload) -> bool:
    return payload.metadata.get("encoding") in _CLEAR
