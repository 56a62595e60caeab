"""What a bulk action is asked to do: the input of its workflow, and the names that the workflow,
its activities and whoever starts it share. Standard library only, for sandboxes load it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BULK_WORKFLOW = "flowtrail.bulk"
"""Its prefix keeps it out of the tracker's own tables (`scope.OWN_WORKFLOWS`)."""
BULK_QUEUE = "flowtrail-system"
GATHER = "flowtrail.bulk.gather"
ACT = "flowtrail.bulk.act"
END = "flowtrail.bulk.end"


@dataclass(frozen=True)
class BulkOrder:
    """An action on every run of a filter.

    Attributes:
        bulk_id: UUID, as text.
        action: A `core.status.BulkAction`.
        filter: A `models.control.BulkFilter` as JSON.
        rate: Runs a second, at most.
        max_runs: Fail, before anything is done, on more.
    """

    bulk_id: str
    action: str
    filter: dict[str, Any]
    actor: str
    rate: float
    max_runs: int
    reason: str | None = None
    signal_name: str | None = None
    signal_args: list[Any] = field(default_factory=list[Any])


@dataclass(frozen=True)
class BulkEnd:
    """How a bulk action ended.

    Attributes:
        status: A `core.status.BulkStatus` of those that are an end.
        error: Why it could not go on.
    """

    bulk_id: str
    status: str
    error: str | None = None


def bulk_workflow_id(bulk_id: object) -> str:
    """Workflow id of a bulk action."""
    return f"{BULK_WORKFLOW}/{bulk_id}"
