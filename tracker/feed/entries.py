"""Changes in memory, and who wants which: pure, so that the same rule serves live delivery and what
is read from the table afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from tracker.core.status import ChangeKind
from tracker.models.feed import ChangeFilter
from tracker.store.changes import change_read, refs_of


class Entry:
    """A change, read once and encoded once for all who want it."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        self.seq: int = row["seq"]
        self.pending_id: int = row["pending_id"]
        self.namespace: str = row["namespace"]
        self.run_id: UUID | None = row["run_id"]
        self.run_key: UUID | None = row["run_key"]
        self.workflow_type: str | None = row["workflow_type"]
        self.refs = refs_of(row)
        self.frames: dict[str, str] = {}
        """What was sent of it, by the name of the subscription; few names are shared by many."""

    @property
    def erases(self) -> bool:
        """Whether it tells that its run was erased."""
        return self.row["kind"] == ChangeKind.RUN and "erased_at" in self.row["data"]

    @cached_property
    def text(self) -> str:
        """JSON of the `Change`."""
        return change_read(self.row).model_dump_json(exclude_none=True)


class Interest:
    """Which changes somebody wants.

    Args:
        filters: Their `run_id` is our own id here.
    """

    def __init__(self, namespace: str, filters: ChangeFilter) -> None:
        self.namespace = namespace
        self.filters = filters
        self._types = frozenset(filters.workflow_type)
        self._statuses = frozenset(str(status) for status in filters.status)
        self._kinds = frozenset(str(kind) for kind in filters.kinds)

    def wants(self, entry: Entry) -> bool:
        """Whether all conditions hold for a change."""
        asked, row = self.filters, entry.row
        return (
            entry.namespace == self.namespace
            and (asked.run_id is None or entry.run_id == asked.run_id)
            and (asked.ref_type is None or self._refers(entry))
            and (not self._types or entry.workflow_type in self._types)
            and (not self._statuses or row["status"] in self._statuses)
            and (not self._kinds or row["kind"] in self._kinds)
        )

    def _refers(self, entry: Entry) -> bool:
        ref_type, ref_id = self.filters.ref_type, self.filters.ref_id
        return any(
            known_type == ref_type and (ref_id is None or known_id == ref_id)
            for known_type, known_id in entry.refs
        )


class Interested(Protocol):
    """Somebody with an interest."""

    @property
    def interest(self) -> Interest:
        """Which changes."""
        ...


T = TypeVar("T", bound=Interested)


class InterestIndex(Generic[T]):
    """Finds those who may want a change without asking everybody."""

    def __init__(self) -> None:
        self._by_key: defaultdict[tuple[object, ...], set[T]] = defaultdict(set)
        self._all: set[T] = set()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._all))

    def add(self, member: T) -> None:
        """Take somebody in."""
        self._all.add(member)
        for key in _keys(member.interest.filters):
            self._by_key[key].add(member)

    def remove(self, member: T) -> None:
        """Let somebody go; nothing where they are not in."""
        self._all.discard(member)
        for key in _keys(member.interest.filters):
            members = self._by_key.get(key)
            if members is not None:
                members.discard(member)
                if not members:
                    del self._by_key[key]

    def wanting(self, entry: Entry) -> Iterator[T]:
        """Those who want a change, each once."""
        keys: set[tuple[object, ...]] = {_ANY, ("run", entry.run_id), ("type", entry.workflow_type)}
        for ref_type, ref_id in entry.refs:
            keys |= {("ref", ref_type, ref_id), ("ref_type", ref_type)}
        found: set[T] = set()
        for key in keys:
            found |= self._by_key.get(key, _NOBODY)
        return (member for member in found if member.interest.wants(entry))


_ANY = ("any",)
_NOBODY: frozenset[Any] = frozenset()


def _keys(filters: ChangeFilter) -> list[tuple[object, ...]]:
    """By the one condition that fits the fewest; several where it is a choice."""
    if filters.run_id is not None:
        return [("run", filters.run_id)]
    if filters.ref_type is not None and filters.ref_id is not None:
        return [("ref", filters.ref_type, filters.ref_id)]
    if filters.workflow_type:
        return [("type", name) for name in filters.workflow_type]
    if filters.ref_type is not None:
        return [("ref_type", filters.ref_type)]
    return [_ANY]
