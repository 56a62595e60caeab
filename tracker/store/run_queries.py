"""Lists of runs: one page by keyset, along the index that suits the filter best.

A page is four statements at most: up to three probes that measure the possible drivers, left out
where there is only one, and the page itself. All have the same shape whatever the values are, and
all are bounded: the cost of a page does not grow with the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tracker.models.filters import RunFilter
from tracker.models.wire import RunPage, RunRead
from tracker.store.cursors import Position, decode_cursor, encode_cursor, list_digest
from tracker.store.database import AsyncConnection, Database
from tracker.store.run_filters import (
    EVERY_RUN,
    NOT_SKEWED,
    PROBE,
    SKEWED_RUNS,
    Driver,
    Selection,
    selection,
)
from tracker.store.run_rows import run_read

LOOKS = 3
"""Probes of one page at most."""


async def list_runs(database: Database, namespace: str, filters: RunFilter) -> RunPage:
    """A page of runs that pass a filter, in the order of (ordered_at, id).

    Args:
        namespace: Temporal namespace; runs of others are never shown.
        filters: What to look for, where to go on and how many.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    digest = list_digest("runs", namespace, filters)
    after = None if filters.cursor is None else decode_cursor(filters.cursor, digest)
    query = _Query(selection(filters, namespace), filters.order == "newest", filters.limit, after)
    async with database.connection() as connection:
        rows = await _page(connection, database, query)
    page, more = rows[: filters.limit], len(rows) > filters.limit
    return RunPage(
        runs=[run_read(row) for row in page],
        next_cursor=encode_cursor(page[-1], digest) if more else None,
    )


async def runs_on(
    connection: AsyncConnection, database: Database, namespace: str, filters: RunFilter
) -> list[RunRead]:
    """The first page of `list_runs`, as a connection's transaction sees it."""
    newest = filters.order == "newest"
    query = _Query(selection(filters, namespace), newest, filters.limit, None)
    rows = await _page(connection, database, query)
    return [run_read(row) for row in rows[: filters.limit]]


async def _page(
    connection: AsyncConnection, database: Database, query: _Query
) -> list[dict[str, Any]]:
    candidates = [c.driver for c in query.selection.conditions if c.driver is not None]
    choice = _Choice(candidates[0] if candidates else EVERY_RUN)
    if len(candidates) > 1 or not all(driver.ordered for driver in candidates):
        choice = await _choose(connection, database, query, candidates)
    if choice.driver is None and not query.selection.bounds:
        return []
    sql = database.sql(query.page(choice))
    cursor = await connection.execute(sql, query.parameters(choice.edge), prepare=True)
    return await cursor.fetchall()


@dataclass(frozen=True, slots=True)
class _Choice:
    """The driver to follow.

    Attributes:
        driver: None where some condition holds for no run at all (but skewed ones, perhaps).
        edge: No run of the list lies before this moment, seen in the list's direction.
        sure: Whether another look, past `edge`, could not change the choice.
    """

    driver: Driver | None
    edge: datetime | None = None
    sure: bool = True


async def _choose(
    connection: AsyncConnection, database: Database, query: _Query, candidates: list[Driver]
) -> _Choice:
    """Look at the head of each driver; where one of them starts only after all that was seen of
    another, look at that again from there, for what it has before does not matter."""
    choice = _Choice(EVERY_RUN, sure=False)
    for _ in range(LOOKS):
        sql = database.sql(query.probe(candidates, edge=choice.edge is not None))
        cursor = await connection.execute(sql, query.parameters(choice.edge), prepare=True)
        choice = _rarest(candidates, await cursor.fetchall(), newest=query.newest)
        if choice.sure:
            break
    return choice


def _rarest(candidates: list[Driver], probes: list[dict[str, Any]], *, newest: bool) -> _Choice:
    """The shortest driver that the probe read to its end, else the one whose first entries reach
    farthest, for there they lie thinnest where the page will look."""
    if any(probe["entries"] == 0 for probe in probes):
        return _Choice(None)
    seen = [
        (driver, _Head(**probe))
        for driver, probe in zip(candidates, probes, strict=True)
        if driver.ordered or probe["entries"] < PROBE
    ]
    if not seen:
        return _Choice(EVERY_RUN)
    firsts = [head.first for _, head in seen]
    edge = min(firsts) if newest else max(firsts)
    best, best_head = min(seen, key=lambda pair: pair[1].rank(newest=newest))
    lasts = (head.last for _, head in seen if not head.ended)
    sure = best_head.ended or not any((last > edge) is newest and last != edge for last in lasts)
    # What is not in order holds skewed runs too, for which the edge may be wrong.
    return _Choice(best, edge if best.ordered else None, sure=sure)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the probe saw of a driver: how many entries, and where they lie in the list."""

    entries: int
    first: datetime
    last: datetime

    @property
    def ended(self) -> bool:
        """Whether these are all."""
        return self.entries < PROBE

    def rank(self, *, newest: bool) -> tuple[bool, float]:
        """Lower is rarer."""
        if self.ended:
            return False, self.entries
        return True, self.last.timestamp() if newest else -self.last.timestamp()


@dataclass(frozen=True, slots=True)
class _Query:
    """Builds the statements of one page."""

    selection: Selection
    newest: bool
    limit: int
    after: Position | None

    def parameters(self, edge: datetime | None) -> dict[str, Any]:
        """Values of every placeholder."""
        place = {} if self.after is None else {"after_at": self.after.at, "after_id": self.after.id}
        return self.selection.parameters | place | {"limit": self.limit + 1, "edge": edge}

    def probe(self, candidates: list[Driver], *, edge: bool) -> str:
        """A row per candidate, in their order: a `_Head`, of up to `PROBE` entries."""
        first, last = ("max", "min") if self.newest else ("min", "max")
        # A plain UNION ALL keeps its branches in order.
        return " UNION ALL ".join(
            f"SELECT count(*) AS entries, {first}(ordered_at) AS first,"
            f" {last}(ordered_at) AS last FROM ({self._head(driver, edge=edge)}) k"
            for driver in candidates
        )

    def page(self, choice: _Choice) -> str:
        """The page's runs, whole rows."""
        driver = choice.driver
        branches = [] if driver is None else [self._driven(driver, choice.edge is not None)]
        if self.selection.bounds and (driver is None or driver.ordered):
            branches.append(self._skewed())
        keys = " UNION ALL ".join(f"({branch})" for branch in branches)
        order = self._order("p.ordered_at", "p.id")
        # OFFSET 0 fixes the way of looking: row by row, by primary key.
        return (
            f"WITH page AS (SELECT ordered_at, id FROM ({keys}) k"
            f" {self._order('ordered_at', 'id')} LIMIT %(limit)s)"
            " SELECT r.* FROM page p CROSS JOIN LATERAL"
            f" (SELECT * FROM {{schema}}.run WHERE id = p.id OFFSET 0) r {order}"
        )

    def _head(self, driver: Driver, *, edge: bool) -> str:
        if not driver.ordered:
            return f"SELECT {driver.at} FROM {driver.relation} LIMIT {PROBE}"
        keys = self._keys(driver, [], edge=edge, bounded=True, limit=str(PROBE))
        return f"{keys} {self._order('ordered_at', 'id')} LIMIT {PROBE}" if driver.values else keys

    def _driven(self, driver: Driver, edge: bool) -> str:
        checks = [c.check for c in self.selection.conditions if c.driver is not driver]
        bounded = bool(self.selection.bounds) and driver.ordered
        if bounded:
            checks.append(NOT_SKEWED)
        return self._keys(driver, checks, edge=edge, bounded=bounded, limit="%(limit)s")

    def _skewed(self) -> str:
        """The runs for which the bounds do not hold; usually none, from an index of their own."""
        checks = [c.check for c in self.selection.conditions]
        return self._keys(SKEWED_RUNS, checks, edge=False, bounded=False, limit="%(limit)s")

    def _keys(
        self, driver: Driver, checks: list[str], *, edge: bool, bounded: bool, limit: str
    ) -> str:
        """(ordered_at, id) along a driver, each branch of its values up to the limit."""
        source, where = driver.relation, [driver.condition]
        if checks and driver.reads_run:
            where += checks
        elif checks:
            source += (
                " CROSS JOIN LATERAL (SELECT FROM {schema}.run r"
                f" WHERE r.id = {driver.id} AND {' AND '.join(checks)} OFFSET 0) r"
            )
        where += self._after(driver.at, driver.id)
        if bounded:
            where += [f"{driver.at} {bound}" for bound in self.selection.bounds]
        if edge:
            where.append(f"{driver.at} {'<=' if self.newest else '>='} %(edge)s")
        keys = (
            f"SELECT {driver.at} AS ordered_at, {driver.id} AS id FROM {source}"
            f" WHERE {' AND '.join(where)}{' GROUP BY 1, 2' if driver.repeats else ''}"
            f" {self._order(driver.at, driver.id)} LIMIT {limit}"
        )
        if driver.values is None:
            return keys
        return f"SELECT k.* FROM {driver.values} CROSS JOIN LATERAL ({keys}) k"

    def _after(self, at: str, key: str) -> list[str]:
        if self.after is None:
            return []
        return [f"({at}, {key}) {'<' if self.newest else '>'} (%(after_at)s, %(after_id)s)"]

    def _order(self, at: str, key: str) -> str:
        direction = "DESC" if self.newest else "ASC"
        return f"ORDER BY {at} {direction}, {key} {direction}"
