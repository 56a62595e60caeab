"""The merge table: for each column of each recorded table, the one rule by which two statements
about the same row become one.

`merge_into` folds in Python, `store.record` generates `ON CONFLICT` from the same rules, and a
property test holds them against each other on Postgres: any order, any duplication, any split of
the facts gives the same rows. COALESCE alone would not: it is commutative only for what never
changes, which is what FIRST is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Row = dict[str, Any]


class Rule(StrEnum):
    """How two values of a column become one."""

    KEY = "key"
    """Identifies the row."""
    FIRST = "first"
    """Immutable: every source that knows it tells the same, so whichever came first stays."""
    MIN = "min"
    MAX = "max"
    GREATEST = "greatest"
    """Taken, nulls included, from the statement with the greater version; see `Column.version`."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its rule.

    Attributes:
        name: In SQL and in rows alike.
        type: Postgres type.
        rule: How two statements merge.
        version: For GREATEST, the column that decides; a version column names itself.
        patch: A jsonb column of the stored row alone, written by people, whose keys stay on top of
            whatever statement wins (`core.metadata`).
    """

    name: str
    type: str
    rule: Rule
    version: str | None = None
    patch: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A recorded table: its columns in the order in which they are written.

    Attributes:
        groups: Each version column with the columns that follow it, itself included.
        choices: What picks between two values of a column that follows no version.
    """

    name: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...] = field(init=False)
    choices: Mapping[str, Callable[[Any, Any], Any]] = field(init=False)

    def __post_init__(self) -> None:
        versions = [c.name for c in self.columns if c.name == c.version]
        groups = tuple((version, self.versioned_by(version)) for version in versions)
        choices = {c.name: _CHOICES[c.rule] for c in self.columns if c.rule in _CHOICES}
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "choices", choices)

    def versioned_by(self, version: str) -> tuple[str, ...]:
        """Names of the columns that follow this version column, itself included."""
        return tuple(c.name for c in self.columns if c.version == version)


def _first(old: Any, _new: Any) -> Any:
    return old


_CHOICES: Mapping[Rule, Callable[[Any, Any], Any]] = {
    Rule.FIRST: _first,
    Rule.MIN: min,
    Rule.MAX: max,
}


def _columns(rule: Rule, type_: str, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, type_, rule) for name in names)


def _group(version: str, version_type: str, **columns: str) -> tuple[Column, ...]:
    members = [Column(version, version_type, Rule.GREATEST, version)]
    members += [Column(name, type_, Rule.GREATEST, version) for name, type_ in columns.items()]
    return tuple(members)


RUN = Table(
    "run",
    (
        Column("id", "uuid", Rule.KEY),
        *_columns(Rule.FIRST, "text", "namespace", "engine", "workflow_type", "workflow_id"),
        *_columns(Rule.FIRST, "text", "task_queue", "parent_workflow_id", "cron_schedule"),
        *_columns(Rule.FIRST, "uuid", "run_key", "first_run_key", "parent_run_key"),
        *_columns(Rule.FIRST, "uuid", "root_run_key", "continued_from"),
        *_columns(Rule.FIRST, "integer", "attempt"),
        *_columns(Rule.FIRST, "timestamptz", "ordered_at", "accepted_at"),
        *_columns(Rule.MIN, "timestamptz", "started_at"),
        # The primary ref: the memo beats a rule, a rule beats the workflow's own set_ref.
        *_group("ref_version", "integer", ref_type="text", ref_id="text"),
        *_group(
            "status_version",
            "bigint",
            status="text",
            finished_at="timestamptz",
            output_id="uuid",
            continued_to="uuid",
            error_type="text",
            error_message="text",
            error_stack="text",
        ),
        *_group("input_version", "integer", input_id="uuid"),
        *_group("metadata_version", "bigint"),
        Column("metadata", "jsonb", Rule.GREATEST, "metadata_version", patch="metadata_patch"),
        *_group("worker_version", "bigint", worker_identity="text", build_id="text"),
        *_group(
            "task_failure_version",
            "bigint",
            task_failed_at="timestamptz",
            task_failure_type="text",
            task_failure_message="text",
        ),
        *_columns(Rule.MAX, "bigint", "projected_length"),
        *_columns(Rule.MAX, "timestamptz", "projected_at"),
    ),
)

STEP = Table(
    "step",
    (
        Column("id", "uuid", Rule.KEY),
        *_columns(Rule.FIRST, "text", "namespace", "kind", "step_key", "name", "type"),
        *_columns(Rule.FIRST, "uuid", "run_key"),
        *_columns(Rule.FIRST, "text", "task_queue"),
        *_columns(Rule.FIRST, "integer", "max_attempts", "event_id"),
        *_columns(Rule.FIRST, "jsonb", "detail"),
        *_columns(Rule.MIN, "timestamptz", "scheduled_at", "started_at"),
        *_columns(Rule.MAX, "timestamptz", "last_started_at"),
        *_columns(Rule.MAX, "integer", "attempts"),
        *_group(
            "status_version",
            "bigint",
            status="text",
            finished_at="timestamptz",
            next_retry_at="timestamptz",
            output_id="uuid",
            error_type="text",
            error_message="text",
        ),
        *_group("input_version", "integer", input_id="uuid"),
        *_group("progress_at", "timestamptz", progress="jsonb"),
    ),
)

ATTEMPT = Table(
    "attempt",
    (
        Column("id", "uuid", Rule.KEY),
        *_columns(Rule.FIRST, "uuid", "step_id"),
        *_columns(Rule.FIRST, "timestamptz", "scheduled_at"),
        # Of a local activity, history knows the end and states it as "at the latest then".
        *_columns(Rule.MIN, "timestamptz", "started_at"),
        *_columns(Rule.FIRST, "text", "worker_identity", "build_id", "task_queue", "trace_id"),
        *_columns(Rule.FIRST, "jsonb", "annotations"),
        *_group(
            "outcome_version",
            "integer",
            # A reset restarts the worker's count, not that of history.
            number="integer",
            outcome="text",
            finished_at="timestamptz",
            next_retry_at="timestamptz",
            error_type="text",
            error_message="text",
        ),
        # Only the worker sees the whole stack; history, which outranks it, must not erase it.
        *_columns(Rule.FIRST, "text", "error_stack"),
    ),
)

RECORDED = (RUN, STEP, ATTEMPT)
"""Tables in the order in which every writer locks them."""


def merge_into(table: Table, row: Row, other: Mapping[str, Any]) -> None:
    """Merge a statement about a row into it, in place.

    Args:
        table: Whose rules apply.
        row: Column → value; absent and None mean "nothing said".
        other: Likewise, with the same key.
    """
    for version, members in table.groups:
        new, old = other.get(version), row.get(version)
        if new is not None and (old is None or new > old):
            for name in members:
                row[name] = other.get(name)
    choices = table.choices
    for name, value in other.items():
        choose = choices.get(name)
        if choose is not None and value is not None:
            known = row.get(name)
            row[name] = value if known is None else choose(known, value)
