"""Rows of one write, merged as the tables would merge them (`core.merge`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from tracker.core.events import WorkflowTypeSeen
from tracker.core.ids import Ref, payload_id
from tracker.core.merge import Row, Table, merge_into
from tracker.core.payloads import StoredPayload


@dataclass(slots=True)
class Batch:
    """Rows of one write, keyed so that none appears twice.

    Attributes:
        payloads: By id; inserted, never changed.
        refs: Further links, (run id, ref).
        workflow_types: By (namespace, name).
    """

    runs: dict[UUID, Row] = field(default_factory=dict[UUID, Row])
    steps: dict[UUID, Row] = field(default_factory=dict[UUID, Row])
    attempts: dict[UUID, Row] = field(default_factory=dict[UUID, Row])
    payloads: dict[UUID, StoredPayload] = field(default_factory=dict[UUID, StoredPayload])
    refs: set[tuple[UUID, Ref]] = field(default_factory=set[tuple[UUID, Ref]])
    workflow_types: dict[tuple[str, str], WorkflowTypeSeen] = field(
        default_factory=dict[tuple[str, str], WorkflowTypeSeen]
    )

    def add(self, table: Table, row: Row) -> None:
        """Merge a statement about one row into the batch."""
        rows = {"run": self.runs, "step": self.steps, "attempt": self.attempts}[table.name]
        known = rows.get(row["id"])
        if known is None:
            rows[row["id"]] = row
        else:
            merge_into(table, known, row)

    def keep(
        self, owner: UUID, role: str, payload: StoredPayload | None, moment: datetime
    ) -> UUID | None:
        """Take in a payload and return the id by which its owner points to it."""
        if payload is None:
            return None
        key = payload_id(owner, role, payload.digest, moment)
        self.payloads[key] = payload
        return key
