"""Callers that reach some runs only: what their requests are narrowed to.

What a reader gets wrong: a restricted caller may call only what is listed here or names one run.
Everything else looks across runs, and a new operation is refused until it narrows itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from tracker.errors import NotAllowed
from tracker.models.external import ReportRun
from tracker.models.feed import ChangeFilter
from tracker.models.filters import RunFilter, WorkflowFilter
from tracker.models.wire import StartRun
from tracker.store.database import Database
from tracker.store.run_detail import check_run_within

F = TypeVar("F", RunFilter, ChangeFilter)


@dataclass(frozen=True, slots=True)
class Restriction:
    """The runs that a caller reaches: those of a type, and with a ref, that is listed.

    Attributes:
        ref_types: None: whatever refs they carry, if any.
        workflow_types: None: of any type.
    """

    ref_types: frozenset[str] | None = None
    workflow_types: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return self.ref_types is not None or self.workflow_types is not None

    def runs(self, filters: F) -> F:
        """The filter, kept to these runs.

        Raises:
            NotAllowed: It asks for others, or must name one of several ref types.
        """
        return filters.model_copy(
            update={
                "workflow_type": self.types(filters.workflow_type),
                "ref_type": self._ref_type(filters.ref_type),
            }
        )

    async def check_run(self, database: Database, namespace: str, run_id: UUID) -> None:
        """Look at a run, by our id or Temporal's.

        Raises:
            NotFound: It is another's, or there is none.
        """
        if self:
            await check_run_within(
                database,
                namespace,
                run_id,
                ref_types=self.ref_types,
                workflow_types=self.workflow_types,
            )

    def workflows(self, filters: WorkflowFilter) -> WorkflowFilter:
        """The filter, kept to workflows of these runs.

        Raises:
            NotAllowed: As `runs`; with ref types it must name one object.
        """
        if self.ref_types is not None:
            if filters.ref_type is None:
                raise _refused("ref_type and ref_id", None, self.ref_types)
            self.ref_type(filters.ref_type)
        return filters.model_copy(update={"workflow_type": self.types(filters.workflow_type)})

    def types(self, asked: Collection[str]) -> list[str]:
        """The workflow types to look for; none: all.

        Raises:
            NotAllowed: One that was asked for is not listed.
        """
        allowed = self.workflow_types
        if allowed is None:
            return list(asked)
        for name in asked:
            if name not in allowed:
                raise _refused("workflow_type", name, allowed)
        return list(asked) or sorted(allowed)

    def ref_type(self, asked: str) -> None:
        """Look at a ref type.

        Raises:
            NotAllowed: It is not listed.
        """
        if self.ref_types is not None and asked not in self.ref_types:
            raise _refused("ref_type", asked, self.ref_types)

    def start(self, start: StartRun) -> None:
        """Look at a start.

        Raises:
            NotAllowed: Its run would be another's, or it may act on one that is.
        """
        self.types([start.workflow_type])
        if self.ref_types is not None:
            if start.ref_type is None:
                raise _refused("ref_type", None, self.ref_types)
            self.ref_type(start.ref_type)
        if self and start.id_conflict_policy != "fail":
            raise NotAllowed(
                "a restricted caller starts with id_conflict_policy 'fail' only: the open run of "
                "that workflow id may be another's",
                field="id_conflict_policy",
            )

    def report(self, report: ReportRun) -> None:
        """Look at the first report of a run.

        Raises:
            NotAllowed: The run would be another's.
        """
        if report.workflow_type is not None:
            self.types([report.workflow_type])
        if self.ref_types is not None:
            if report.ref_type is None:
                raise _refused("ref_type", None, self.ref_types)
            self.ref_type(report.ref_type)

    def _ref_type(self, asked: str | None) -> str | None:
        if self.ref_types is None:
            return asked
        if asked is None and len(self.ref_types) == 1:
            return next(iter(self.ref_types))
        if asked is None:
            raise _refused("ref_type", None, self.ref_types)
        self.ref_type(asked)
        return asked


NONE = Restriction()


def run_of(path_parameters: Mapping[str, Any]) -> UUID | None:
    """The run that a request's path names; None: none, or nothing that is an id."""
    try:
        return UUID(str(path_parameters["run_id"]))
    except (KeyError, ValueError):
        return None


def _refused(field: str, asked: str | None, allowed: Collection[str]) -> NotAllowed:
    listed = ", ".join(sorted(allowed))
    got = "" if asked is None else f", got {asked!r}"
    return NotAllowed(
        f"this caller must give {field} of: {listed}{got}", field=field, allowed=sorted(allowed)
    )
