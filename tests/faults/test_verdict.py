"""The verdict sees what it is there to see; a table of zeros is worth nothing otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.conftest import Endure, nothing
from tests.faults.load import Load
from tests.faults.site import QUEUE, Site
from tests.faults.verdict import judge
from tests.faults.workload import Job
from tracker.core.memo import MEMO_FIELD

pytestmark = pytest.mark.timeout(180)
OURS = "run_key IN (SELECT run_key FROM flowtrail.run WHERE id = ANY(%s))"


async def test_a_fault_without_a_run_in_flight_fails(site: Site) -> None:
    with pytest.raises(AssertionError, match="no run was in flight"):
        await Endure((0, 0))(site, "nothing", nothing)


async def test_what_is_wrong_is_counted(site: Site) -> None:
    load = Load(site)
    await load.begin(3)
    load.release()
    await load.closed()
    clean = await judge(load, "none", 3)
    assert (clean.differences, clean.doubled, clean.attempts_lost) == (0, 0, 0), clean
    assert clean.wrong_results == 0

    await load.recorded(
        f"UPDATE flowtrail.step SET error_message = 'x' WHERE name = 'hold' AND {OURS}"
    )
    assert (await judge(load, "rows tampered with", 3)).differences == 3

    await load.recorded(
        "DELETE FROM flowtrail.attempt WHERE outcome = 'failed' AND number = 1"
        f" AND step_id IN (SELECT id FROM flowtrail.step WHERE name = 'warm' AND {OURS})"
    )
    assert (await judge(load, "attempts deleted", 3)).attempts_lost > 0

    load.accepted[0] = replace(load.accepted[0], number=load.accepted[0].number + 5)
    assert (await judge(load, "another result", 3)).wrong_results == 1


async def test_a_second_start_is_counted(site: Site) -> None:
    load = Load(site)
    await load.begin(1)
    load.release()
    await load.closed()
    [start] = load.accepted
    carried = {"id": str(start.run_id), "workflow_id": start.workflow_id}
    again = await site.client.start_workflow(
        "FaultRun",
        Job(start.number, str(load.folder)),
        id=start.workflow_id,
        task_queue=QUEUE,
        memo={MEMO_FIELD: carried},
    )
    await again.result()
    # The tables keep the first of two runs that claim one id.
    assert (await judge(load, "started again", 1, patience=2)).doubled == 1
