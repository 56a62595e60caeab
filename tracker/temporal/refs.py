"""`with tracked_ref("order", "o-1"):` around any client start gives the run its ref.

Works on a client that has the plugin; the ref travels in the memo, as one given to the facade does.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tracker.core.ids import Ref
from tracker.core.memo import Carried


@contextmanager
def tracked_ref(
    ref_type: str, ref_id: str, *, metadata: Mapping[str, Any] | None = None
) -> Generator[None]:
    """Give every workflow started within the block, in this task or thread, a ref.

    Args:
        ref_type, ref_id: As for `core.ids.Ref`.
        metadata: JSON object recorded with the runs.

    Raises:
        InvalidRequest: If the ref is malformed.
    """
    token = _carried.set(Carried(ref=Ref(ref_type, ref_id), metadata=dict(metadata or {})))
    try:
        yield
    finally:
        _carried.reset(token)


def carried_by_client() -> Carried | None:
    """What the innermost `tracked_ref` gives, for the client interceptor."""
    return _carried.get()


_carried: ContextVar[Carried | None] = ContextVar("flowtrail_tracked_ref", default=None)
