"""The memo field by which a run carries our id, its ref and its metadata.

Memo, because it survives continue-as-new, retry, cron and reset, which headers do not. An id in a
memo binds only the run for which it was made: copies of a memo (a reset, a schedule, a user's own
copying) must never make two runs one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from tracker.core.ids import Ref, derived_run_id
from tracker.errors import InvalidRequest

MEMO_FIELD = "flowtrail"


@dataclass(frozen=True, slots=True)
class Carried:
    """What the memo field says.

    Attributes:
        id, workflow_id: Our run id and the workflow id that it was made for.
        ref: Primary ref.
        links: Further refs that the workflow added.
        metadata: JSON object.
    """

    id: UUID | None = None
    workflow_id: str | None = None
    ref: Ref | None = None
    links: tuple[Ref, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_memo(self) -> dict[str, Any]:
        """The JSON object that goes into the memo; empty parts are left out."""
        memo: dict[str, Any] = {}
        if self.id is not None:
            memo |= {"id": str(self.id), "workflow_id": self.workflow_id}
        if self.ref is not None:
            memo |= {"ref_type": self.ref.ref_type, "ref_id": self.ref.ref_id}
        if self.links:
            memo["links"] = [[link.ref_type, link.ref_id] for link in self.links]
        if self.metadata:
            memo["metadata"] = dict(self.metadata)
        return memo

    def for_child(self) -> Carried:
        """What a child inherits: ref and metadata, never the id."""
        return Carried(ref=self.effective_ref, metadata=self.metadata)

    @property
    def effective_ref(self) -> Ref | None:
        """The ref given at the start, else the first that the workflow linked itself to."""
        return self.ref or next(iter(self.links), None)

    def run_id(
        self, namespace: str, workflow_id: str, run_key: UUID, first_run_key: UUID | None
    ) -> UUID:
        """Public id of the run in whose memo this stands: the carried one if it was made for this
        very run, else one derived from Temporal's."""
        is_first = first_run_key is None or first_run_key == run_key
        if self.id is not None and is_first and self.workflow_id == workflow_id:
            return self.id
        return derived_run_id(namespace, run_key, first_run_key)


def read_memo(value: Any) -> Carried:
    """Read the memo field. Anything unreadable counts as absent: a foreign or broken memo must
    never disturb a run."""
    if not isinstance(value, Mapping):
        return Carried()
    memo = cast("Mapping[str, Any]", value)
    metadata = memo.get("metadata")
    workflow_id = memo.get("workflow_id")
    return Carried(
        id=_uuid(memo.get("id")),
        workflow_id=workflow_id if isinstance(workflow_id, str) else None,
        ref=_ref(memo.get("ref_type"), memo.get("ref_id")),
        links=_links(memo.get("links")),
        metadata=cast("Mapping[str, Any]", metadata) if isinstance(metadata, Mapping) else {},
    )


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _ref(ref_type: Any, ref_id: Any) -> Ref | None:
    if not (isinstance(ref_type, str) and isinstance(ref_id, str)):
        return None
    try:
        return Ref(ref_type, ref_id)
    except InvalidRequest:
        return None


def _links(value: Any) -> tuple[Ref, ...]:
    if not isinstance(value, list):
        return ()
    pairs = (cast("list[Any]", item) for item in cast("list[Any]", value) if isinstance(item, list))
    refs = (_ref(*pair) for pair in pairs if len(pair) == 2)
    return tuple(ref for ref in refs if ref is not None)
