"""What a fault left: are the rows what the histories say, did each accepted start run once, is any
attempt missing that somebody saw.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from tests.faults.load import PATIENCE, Load
from tests.faults.site import Site
from tests.waiting import eventually
from tracker.core.status import HISTORY_AUTHORITY
from tracker.store.database import Database, DatabaseOptions
from tracker.store.recorded_runs import RunChoice
from tracker.temporal.executions import list_executions, read_carried
from tracker.temporal.verify import Verification

SETTLING = 1.0
"""Seconds."""


@dataclass(frozen=True)
class Verdict:
    """One line of the suite's table.

    Attributes:
        in_flight: Runs open at the blow.
        lost: Accepted starts that never ran.
        doubled: Accepted starts that ran more than once.
        attempts_lost: Attempts that somebody saw and the tables do not tell.
        attempts_doubled: Attempts that the tables tell twice.
        details: What is wrong, in words.
    """

    fault: str
    in_flight: int
    accepted: int
    differences: int
    lost: int
    doubled: int
    attempts_lost: int = 0
    attempts_doubled: int = 0
    wrong_results: int = 0
    details: tuple[str, ...] = ()


async def judge(load: Load, fault: str, in_flight: int, *, patience: float = PATIENCE) -> Verdict:
    """Wait until history's word on every run is in the tables, then hold them against Temporal.

    Args:
        patience: Seconds for that; what is not there then is a difference.
    """
    behind: list[str] = []
    try:
        await eventually(lambda: _all_told(load), patience)
    except AssertionError as failure:
        behind = [str(failure)]
    executions = await _executions(load)
    roots = [info for info in executions if info.type.name == "FaultRun"]
    starts = Counter([await _our_id(load.site, info) for info in roots])
    accepted = {start.run_id for start in load.accepted}
    differences = behind + await _differences(load)
    attempts_lost, attempts_doubled = await _settled_attempts(load)
    wrong = await load.wrong_results()
    return Verdict(
        fault,
        in_flight,
        len(accepted),
        len(differences),
        len(accepted - starts.keys()),
        sum(count > 1 for count in starts.values()),
        len(attempts_lost),
        len(attempts_doubled),
        len(wrong),
        (*differences, *attempts_lost, *attempts_doubled, *wrong),
    )


async def _all_told(load: Load) -> bool:
    """Whether the reconciler has read the whole history of each run and child of the load, and
    what was spilled has come back."""
    assert not list(load.site.spill_dir.glob("*.spill")), "spilled events have not come back"
    infos = await _executions(load)
    known = await load.site.rows(
        "SELECT run_key, projected_length FROM flowtrail.run WHERE status_version >= %s",
        HISTORY_AUTHORITY,
    )
    lengths = {str(row["run_key"]): row["projected_length"] for row in known}
    behind = [i.execution for i in infos if lengths.get(i.execution.run_id) != i.history_length]
    assert not behind, f"{len(behind)} of {len(infos)} runs not projected, {behind[0]} among them"
    return len(infos) >= len(load.accepted)


async def _executions(load: Load) -> list[WorkflowExecutionInfo]:
    ours = {start.workflow_id for start in load.accepted}
    found = list_executions(load.site.client, "", seconds=10)
    return [i async for i in found if i.execution.workflow_id.removesuffix("/child") in ours]


async def _our_id(site: Site, info: WorkflowExecutionInfo) -> UUID | None:
    return (await read_carried(site.client.data_converter, info.memo)).id


async def _differences(load: Load) -> list[str]:
    """What `verify` finds of the load's runs; other faults had the site before."""
    site, ours = load.site, {one.workflow_id for one in load.accepted}
    async with Database(DatabaseOptions(site.dsn), max_connections=2) as database:
        choice = RunChoice(site.namespace, since=load.begun_at)
        report = await Verification(site.client, database, choice, settling=(SETTLING,)).run()
    return [
        f"{run.workflow_id}: {one}"
        for run in report.found
        for one in run.differences
        if run.workflow_id.removesuffix("/child") in ours
    ]


async def _settled_attempts(load: Load) -> tuple[list[str], list[str]]:
    """Attempts that are wrong after a recorder that has just recovered had time for its memory."""

    async def none_lost() -> bool:
        return not (await _attempts(load))[0]

    with suppress(AssertionError):
        await eventually(none_lost, SETTLING)
    return await _attempts(load)


async def _attempts(load: Load) -> tuple[list[str], list[str]]:
    """Attempts noted in the ledger that the tables lack or tell otherwise; such that they tell
    twice."""
    rows = await load.site.rows(
        "SELECT s.run_key::text AS run_key, s.type, a.number, a.outcome, a.error_message"
        " FROM flowtrail.attempt a JOIN flowtrail.step s ON s.id = a.step_id"
    )
    stored = {(row["run_key"], row["type"], row["number"]): row for row in rows}
    counts = Counter((row["run_key"], row["type"], row["number"]) for row in rows)
    notes = load.notes()
    ours = {note.run_key for note in notes}
    lost: list[str] = []
    for note in notes:
        row = stored.get((note.run_key, note.step, note.attempt))
        if row is None:
            lost.append(f"attempt {note} is not stored")
        elif note.outcome == "failed" and row["error_message"] != note.error:
            lost.append(f"attempt {note} is stored as {row['outcome']}: {row['error_message']}")
    doubled = [f"attempt {key} is stored twice" for key, n in counts.items() if n > 1]
    return lost, [told for told in doubled if any(key in told for key in ours)]
