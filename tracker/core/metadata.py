"""Changes that people make to a run's metadata, kept beside what the run itself says.

The run's code may set metadata at any time; what people changed must outlive that. So a change is
kept as a patch and applied on top of whatever the run says, here for comparing and in
`store.record` for storing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def patched(
    metadata: Mapping[str, Any] | None, patch: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Metadata with a patch on top.

    Args:
        metadata: What the run says.
        patch: Key → new value; None takes the key away (RFC 7396, of the top level alone).
    """
    if not patch:
        return metadata
    merged = {**(metadata or {}), **patch}
    return {key: value for key, value in merged.items() if key not in patch or value is not None}
