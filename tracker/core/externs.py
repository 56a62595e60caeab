"""Names of the extern functions by which workflow code reaches the recorder outside the sandbox.

The plugin provides them; `tracker.workflow` calls them on the workflow's thread, while the
workflow's runtime is current (`workflow.info()` works in them), and only outside replay. They must
not block or raise.
"""

from __future__ import annotations

REF_ADDED = "__flowtrail_ref_added"
"""`(ref_type: str, ref_id: str) -> None`: the workflow added a link that it did not have."""

METADATA_SET = "__flowtrail_metadata_set"
"""`(metadata: dict[str, Any]) -> None`: the whole metadata after a change; a JSON object."""
