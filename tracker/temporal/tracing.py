"""The trace id of an attempt, where somebody traces: from Temporal's OpenTelemetry header, else
from the active span; and that header for starts that no client of Temporal's makes. OpenTelemetry
is looked at only if the program has it loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from temporalio.api.common.v1 import Payload

_HEADER = "_tracer-data"  # temporalio.contrib.opentelemetry


def trace_id(headers: Mapping[str, Payload]) -> str | None:
    """32 hexadecimal digits, or None."""
    payload = headers.get(_HEADER)
    return (_from_header(payload.data) if payload is not None else None) or _from_span()


def trace_header() -> Mapping[str, Payload]:
    """The header that Temporal's interceptor would give a call within the active span; empty where
    nobody traces."""
    propagate: Any = sys.modules.get("opentelemetry.propagate")
    if propagate is None or _from_span() is None:
        return {}
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    data = json.dumps(carrier).encode()
    return {_HEADER: Payload(metadata={"encoding": b"json/plain"}, data=data)}


def _from_header(data: bytes) -> str | None:
    try:
        # W3C traceparent: version-trace_id-parent_id-flags.
        return json.loads(data)["traceparent"].split("-")[1]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _from_span() -> str | None:
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
