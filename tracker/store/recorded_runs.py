"""Runs as the tables have them, whole and in bounded pages, for holding them against history.

Rows are read after the histories that they are compared with: what is written meanwhile can only
make them more complete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from tracker.core.comparison import StoredRun
from tracker.core.ids import Ref, moment_of
from tracker.core.status import HISTORY_AUTHORITY
from tracker.store import queries
from tracker.store.database import Database

PAGE = 200
"""Runs looked up together."""
MANY = 200_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_NIL = UUID(int=0)
_SQL = queries.load("verify")

Scan = Literal["open_runs", "closed_runs", "ref_runs"]


@dataclass(frozen=True, slots=True)
class RunHead:
    """What one must know of a run to read its history.

    Attributes:
        length: Up to which event its history was projected; 0: never.
        erased: Its values and texts were erased.
        from_history: Its status is the word of history.
    """

    id: UUID
    run_key: UUID
    workflow_id: str
    workflow_type: str
    ref: Ref | None
    status: str
    length: int
    erased: bool
    from_history: bool


@dataclass(frozen=True, slots=True)
class RunChoice:
    """Which runs.

    Attributes:
        since: Those that closed before are left out.
        until: Likewise those that close at or after this moment.
        workflow_types: Only these; empty: all.
        ref: Only runs with it, be it their primary ref or a further one.
        share: Part of the runs, 0 to 1, chosen by their ids and `seed`.
    """

    namespace: str
    since: datetime = EARLIEST
    until: datetime = LATEST
    workflow_types: tuple[str, ...] = ()
    ref: Ref | None = None
    share: float = 1.0
    seed: int = 0

    @property
    def scans(self) -> tuple[Scan, ...]:
        """Open runs before closed ones: what closes in between is seen, as open."""
        return ("ref_runs",) if self.ref is not None else ("open_runs", "closed_runs")

    def parameters(self) -> dict[str, Any]:
        """As the statements take it."""
        return {
            "namespace": self.namespace,
            "since": self.since,
            "until": self.until,
            "types": list(self.workflow_types) or None,
            "ref_type": self.ref and self.ref.ref_type,
            "ref_id": self.ref and self.ref.ref_id,
            "share": self.share,
            "seed": self.seed,
        }


async def recorded_runs(database: Database, choice: RunChoice) -> AsyncIterator[list[RunHead]]:
    """The runs of a choice that Temporal runs or ran, in pages of up to `PAGE`."""
    for scan in choice.scans:
        after_at, after_id = EARLIEST, _NIL
        while True:
            rows = await _fetch(
                database,
                scan,
                **choice.parameters(),
                after_at=after_at,
                after_id=after_id,
                limit=PAGE,
            )
            if rows:
                yield [_head(row) for row in rows]
                after_at, after_id = rows[-1]["position"], rows[-1]["id"]
            if len(rows) < PAGE:
                break


async def count_runs(database: Database, choice: RunChoice) -> int | None:
    """How many runs a choice has, those of deleted histories included; None from `MANY` on, where
    counting takes longer than it is worth."""
    rows = await _fetch(database, "count_runs", **choice.parameters(), limit=MANY)
    return rows[0]["runs"] if rows[0]["runs"] < MANY else None


async def stored_runs(
    database: Database, namespace: str, heads: Sequence[RunHead]
) -> dict[UUID, StoredRun]:
    """Runs with all their rows, by id; a run that is gone is absent."""
    ids, run_keys = [head.id for head in heads], [head.run_key for head in heads]
    runs = await _fetch(database, "runs", ids=ids)
    steps = await _fetch(database, "steps", namespace=namespace, run_keys=run_keys)
    attempts = await _fetch(database, "attempts", namespace=namespace, run_keys=run_keys)
    refs = await _fetch(database, "refs", ids=ids)
    values = [row[c] for row in (*runs, *steps) for c in ("input_id", "output_id") if row[c]]
    payloads = {row["id"]: row for row in await _fetch(database, "payloads", ids=values)}
    [horizon] = await _fetch(database, "payload_horizon")
    steps_of, attempts_of = _by(steps, "run_key"), _by(attempts, "run_key")
    refs_of = _by(refs, "run_id")
    return {
        run["id"]: StoredRun(
            run=run,
            steps={row["id"]: row for row in steps_of[run["run_key"]]},
            attempts={row["id"]: row for row in attempts_of[run["run_key"]]},
            refs=frozenset(Ref(row["ref_type"], row["ref_id"]) for row in refs_of[run["id"]]),
            payloads=payloads,
            missed=_missed(run, values, payloads, horizon["dropped_before"]),
        )
        for run in runs
    }


async def beginning(database: Database, namespace: str) -> tuple[datetime, datetime | None]:
    """Now by the database's clock, and when the first run that is on record began."""
    [row] = await _fetch(database, "beginning", namespace=namespace)
    return row["now"], row["first_run"]


def _missed(
    run: Mapping[str, Any],
    values: Iterable[UUID],
    payloads: Mapping[UUID, Any],
    dropped_before: datetime | None,
) -> frozenset[UUID]:
    """Values that should be there and are not: neither purged with their run nor with a month."""
    if run["payloads_purged_at"] is not None or run["erased_at"] is not None:
        return frozenset()
    horizon = dropped_before or EARLIEST
    return frozenset(v for v in values if v not in payloads and moment_of(v) >= horizon)


def _head(row: Mapping[str, Any]) -> RunHead:
    return RunHead(
        id=row["id"],
        run_key=row["run_key"],
        workflow_id=row["workflow_id"],
        workflow_type=row["workflow_type"],
        ref=None if row["ref_type"] is None else Ref(row["ref_type"], row["ref_id"]),
        status=row["status"],
        length=row["projected_length"] or 0,
        erased=row["erased"],
        from_history=row["status_version"] >= HISTORY_AUTHORITY,
    )


def _by(rows: Iterable[dict[str, Any]], column: str) -> dict[UUID, list[dict[str, Any]]]:
    groups: defaultdict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return groups


async def _fetch(database: Database, name: str, **parameters: Any) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(_SQL[name]), parameters)
        return await cursor.fetchall()
