"""What a run filter means in SQL: a check on each run, and where an index allows it, a driver.

A driver is an index whose entries for one condition already stand in the list's order, so a page
costs what it shows. Every filter alone has one; of several, `run_queries` measures which to follow
and checks the rest run by run. Nothing here leaves that choice to the planner's statistics, which
know nothing of how values, time and order hang together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tracker.models.filters import RunFilter

PROBE = 1000
"""Entries that are read of each driver to find the rarest."""

# As in the index run_skewed_idx, word for word: Postgres compares the expressions.
_SKEWED = (
    "({0}.started_at - {0}.ordered_at NOT BETWEEN '-00:01:00' AND '00:01:00'"
    " OR {0}.finished_at - {0}.ordered_at < '-00:01:00')"
)
NOT_SKEWED = _SKEWED.format("r") + " IS NOT TRUE"
SLACK = "interval '1 minute'"
"""How far a run that is not skewed may have started from its `ordered_at`."""


@dataclass(frozen=True, slots=True)
class Driver:
    """An index that yields the runs of one condition in order.

    Attributes:
        name: For logs and tests.
        relation: What to read: the run table as `r`, or another one as `d`.
        id: Column of the run's id.
        condition: On the relation; may speak of the columns of `values`.
        values: A set `v` of which each row is one branch, all merged; None for a single branch.
        ordered: Whether the entries come in the list's order; if not, all of them are sorted,
            which only `PROBE` of them are worth.
        repeats: Whether a run may appear more than once.
    """

    name: str
    relation: str
    id: str
    condition: str
    values: str | None = None
    ordered: bool = True
    repeats: bool = False

    @property
    def at(self) -> str:
        """Column of the list's time."""
        return f"{self.id[0]}.ordered_at"

    @property
    def reads_run(self) -> bool:
        """Whether the relation is the run table itself, so that checks need no further look."""
        return self.id == "r.id"


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter.

    Attributes:
        check: What must hold of a run `r`.
        driver: The index that finds its runs, if there is one.
    """

    check: str
    driver: Driver | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """A run filter in SQL.

    Attributes:
        conditions: All must hold.
        bounds: Comparisons of `ordered_at` (`>= x`, `< y`) that follow from ranges of other times
            and hold for all but skewed runs.
        parameters: Values of the named placeholders.
    """

    conditions: tuple[Condition, ...]
    bounds: tuple[str, ...]
    parameters: dict[str, Any]


EVERY_RUN = Driver("all", "{schema}.run r", "r.id", "r.namespace = %(namespace)s")
# Read as another table: its checks stay out of the planner's choice of an index.
SKEWED_RUNS = Driver(
    "skewed", "{schema}.run d", "d.id", f"d.namespace = %(namespace)s AND {_SKEWED.format('d')}"
)


def selection(filters: RunFilter, namespace: str) -> Selection:
    """Translate a filter."""
    builder = _Builder({"namespace": namespace})
    builder.add_ref(filters)
    builder.add_metadata(filters)
    builder.add_columns(filters)
    builder.add_lifecycle(filters)
    builder.add_family(filters)
    builder.add_failures(filters)
    builder.add_waiting(filters)
    builder.add_duration(filters)
    builder.add_times(filters)
    return Selection(tuple(builder.conditions), tuple(builder.bounds), builder.parameters)


@dataclass(slots=True)
class _Builder:
    parameters: dict[str, Any]
    conditions: list[Condition] = field(default_factory=list[Condition])
    bounds: list[str] = field(default_factory=list[str])

    def add_ref(self, filters: RunFilter) -> None:
        if filters.ref_type is None:
            return
        self.parameters["ref_type"] = filters.ref_type
        exact = filters.ref_id is not None
        same = "{0}.ref_type = %(ref_type)s"
        if exact:
            self.parameters["ref_id"] = filters.ref_id
            same += " AND {0}.ref_id = %(ref_id)s"
        check = (
            f"EXISTS (SELECT FROM {{schema}}.run_ref o"
            f" WHERE o.run_id = r.id AND {same.format('o')})"
        )
        here = f"d.namespace = %(namespace)s AND {same.format('d')}"
        name = "ref" if exact else "ref_type"
        driver = Driver(name, "{schema}.run_ref d", "d.run_id", here, repeats=not exact)
        self.conditions.append(Condition(check, driver))

    def add_metadata(self, filters: RunFilter) -> None:
        for number, (key, values) in enumerate(sorted(filters.metadata.items())):
            key_name, values_name = f"key_{number}", f"values_{number}"
            self.parameters |= {key_name: key, values_name: sorted(set(values))}
            check = (
                "EXISTS (SELECT FROM {schema}.run_label o WHERE o.run_id = r.id"
                f" AND o.key = %({key_name})s AND o.value = ANY(%({values_name})s))"
            )
            driver = Driver(
                f"metadata.{key}",
                "{schema}.run_label d",
                "d.run_id",
                f"d.namespace = %(namespace)s AND d.key = %({key_name})s AND d.value = v.value",
                f"unnest(%({values_name})s::text[]) AS v(value)",
            )
            self.conditions.append(Condition(check, driver))

    def add_columns(self, filters: RunFilter) -> None:
        for name in ("workflow_id", "task_queue", "build_id"):
            value = getattr(filters, name)
            if value is not None:
                self.parameters[name] = value
                check = f"r.{name} = %({name})s"
                self.conditions.append(Condition(check, _on_run(name, check)))

    def add_lifecycle(self, filters: RunFilter) -> None:
        types, statuses = sorted(set(filters.workflow_type)), sorted(set(filters.status))
        if types and not statuses:
            self.parameters["types"] = types
            driver = _on_run(
                "workflow_type",
                "r.workflow_type = v.workflow_type",
                "unnest(%(types)s::text[]) AS v(workflow_type)",
            )
            self.conditions.append(Condition("r.workflow_type = ANY(%(types)s)", driver))
        elif types:
            pairs = [(t, s) for t in types for s in statuses]
            self.parameters["pair_types"] = [t for t, _ in pairs]
            self.parameters["pair_statuses"] = [s for _, s in pairs]
            self.parameters |= {"types": types, "statuses": statuses}
            driver = _on_run(
                "workflow_type",
                "r.workflow_type = v.workflow_type AND r.status = v.status",
                "unnest(%(pair_types)s::text[], %(pair_statuses)s::text[])"
                " AS v(workflow_type, status)",
            )
            check = "r.workflow_type = ANY(%(types)s) AND r.status = ANY(%(statuses)s)"
            self.conditions.append(Condition(check, driver))
        elif statuses:
            self.parameters["statuses"] = statuses
            driver = _on_run(
                "status", "r.status = v.status", "unnest(%(statuses)s::text[]) AS v(status)"
            )
            self.conditions.append(Condition("r.status = ANY(%(statuses)s)", driver))

    def add_family(self, filters: RunFilter) -> None:
        if filters.parent is not None:
            self.parameters["parent"] = filters.parent
            # By our id or Temporal's; asked once, not per run.
            key = (
                "coalesce((SELECT p.run_key FROM {schema}.run p WHERE p.id = %(parent)s"
                " AND p.namespace = %(namespace)s), %(parent)s)"
            )
            check = f"r.parent_run_key = {key}"
            self.conditions.append(Condition(check, _unordered("parent", check)))
        if filters.roots_only:
            self.conditions.append(Condition("r.parent_run_key IS NULL"))
        if filters.rerun_of is not None:
            self.parameters["rerun_of"] = filters.rerun_of
            check = "r.rerun_of = %(rerun_of)s"
            self.conditions.append(Condition(check, _unordered("rerun_of", check)))

    def add_failures(self, filters: RunFilter) -> None:
        if filters.failure is not None:
            self.parameters["failure"] = filters.failure
            same = "{0}.fingerprint = %(failure)s"
            driver = _on_failures("failure", same.format("d"))
            self.conditions.append(Condition(_has_failure(same.format("o")), driver))
        if filters.failed_step is not None:
            self.parameters["failed_step"] = filters.failed_step
            same = "{0}.name = %(failed_step)s"
            driver = _on_failures(
                "failed_step",
                f"{same.format('d')} AND d.status = v.status",
                "unnest(ARRAY['failed', 'timed_out']) AS v(status)",
            )
            ended = f"{same.format('o')} AND o.status IN ('failed', 'timed_out')"
            self.conditions.append(Condition(_has_failure(ended), driver))
        if filters.retrying:
            self._add_retrying()

    def _add_retrying(self) -> None:
        # `r` is open as well: the steps of a run that was ended from outside stay as they were.
        condition, further = "{0}.status IN ('scheduled', 'started')", "r.finished_at IS NULL"
        check = f"{_has_failure(condition.format('o'))} AND {further}"
        # OFFSET 0: the failures first, then their runs by key.
        apart = (
            "(SELECT f.run_key FROM {schema}.step_failure f"
            f" WHERE f.namespace = %(namespace)s AND {condition.format('f')} OFFSET 0) f"
            " JOIN {schema}.run r ON r.namespace = %(namespace)s AND r.run_key = f.run_key"
        )
        driver = Driver("retrying", apart, "r.id", further, ordered=False, repeats=True)
        self.conditions.append(Condition(check, driver))

    def add_waiting(self, filters: RunFilter) -> None:
        if filters.waiting_on is None:
            return
        self.parameters["waiting_on"] = json.dumps([{"kind": filters.waiting_on}])
        # By run_open_idx.
        check = "r.finished_at IS NULL AND r.waiting_on @> %(waiting_on)s::jsonb"
        self.conditions.append(Condition(check, _on_run("waiting_on", check)))

    def add_duration(self, filters: RunFilter) -> None:
        checks: list[str] = []
        for name, operator in (("min_duration", ">="), ("max_duration", "<=")):
            value = getattr(filters, name)
            if value is not None:
                self.parameters[name] = value
                checks.append(
                    f"r.finished_at - r.started_at {operator} make_interval(secs => %({name})s)"
                )
        if checks:
            check = " AND ".join(("r.finished_at IS NOT NULL", *checks))
            direction = "ASC" if filters.min_duration is None else "DESC"
            order = f"r.finished_at - r.started_at {direction}"
            self.conditions.append(Condition(check, _unordered("duration", check, order)))

    def add_times(self, filters: RunFilter) -> None:
        started = self._range(filters, "started")
        finished = self._range(filters, "finished")
        if started:
            self.conditions.append(Condition(started))
        if finished:
            driver = _unordered("finished", finished, "r.finished_at")
            self.conditions.append(Condition(finished, driver))
        if filters.started_after is not None:
            self.bounds.append(f">= %(started_after)s::timestamptz - {SLACK}")
        for name in ("started_before", "finished_before"):
            if getattr(filters, name) is not None:
                self.bounds.append(f"< %({name})s::timestamptz + {SLACK}")

    def _range(self, filters: RunFilter, moment: str) -> str:
        checks: list[str] = []
        for name, operator in ((f"{moment}_after", ">="), (f"{moment}_before", "<")):
            value = getattr(filters, name)
            if value is not None:
                self.parameters[name] = value
                checks.append(f"r.{moment}_at {operator} %({name})s")
        return " AND ".join(checks)


def _unordered(name: str, condition: str, order: str | None = None) -> Driver:
    """What is found in another order.

    Args:
        order: That of the index. Without it the planner, who takes a range for a third of all,
            would rather read the table.
    """
    # OFFSET 0 keeps the planner from following another index and filtering.
    here = f"r.namespace = %(namespace)s AND {condition}"
    here += f" ORDER BY {order}" if order else ""
    apart = f"(SELECT * FROM {{schema}}.run r WHERE {here} OFFSET 0) r"
    return Driver(name, apart, "r.id", "true", ordered=False)


def _has_failure(condition: str) -> str:
    return (
        "EXISTS (SELECT FROM {schema}.step_failure o WHERE o.namespace = r.namespace"
        f" AND o.run_key = r.run_key AND {condition})"
    )


def _on_failures(name: str, condition: str, values: str | None = None) -> Driver:
    here = f"d.namespace = %(namespace)s AND {condition} AND d.ordered_at IS NOT NULL"
    return Driver(name, "{schema}.step_failure d", "d.run_id", here, values, repeats=True)


def _on_run(name: str, condition: str, values: str | None = None) -> Driver:
    here = f"r.namespace = %(namespace)s AND {condition}"
    return Driver(name, "{schema}.run r", "r.id", here, values)
