"""The namespace goes away, and its runs with it. Nothing is left to compare with, so here the rows
before are held against the rows after, and the attempts' own notes tell what ran."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest

from tests.conftest import register_namespace
from tests.faults.conftest import Endure
from tests.faults.load import PATIENCE, Load
from tests.faults.servers import Servers
from tests.faults.site import Site, site_on
from tests.faults.verdict import Verdict
from tests.faults.workload import Job
from tests.waiting import eventually
from tracker.errors import StartRejected

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def doomed_site(servers: Servers, tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose namespace may go."""
    async with site_on(servers, tmp_path, workers=1) as site:
        yield site


async def test_what_is_on_record_outlives_the_namespace(doomed_site: Site, endure: Endure) -> None:
    site, load = doomed_site, Load(doomed_site)
    held, more = endure.runs
    await load.begin(held)
    load.ask(more)
    await load.all_accepted()
    await eventually(lambda: _are_told(load, more), PATIENCE)
    before = await _runs(load)
    in_flight = await load.in_flight()
    assert in_flight > 0, "no run was in flight at the blow"

    request = DeleteNamespaceRequest(namespace=site.namespace)
    await site.client.operator_service.delete_namespace(request)
    await eventually(_reconciler_says(site, "cannot reconcile runs now"), PATIENCE)
    with pytest.raises(StartRejected, match="not found"):
        await site.http.start_workflow("FaultRun", vars(Job(0, str(load.folder))))
    # Not to be found is no verdict on the runs: the namespace may have been misspelt somewhere.
    assert await _runs(load) == before
    assert all(program.is_running for program in site.programs)

    await register_namespace(site.client, site.namespace)
    await eventually(lambda: _are_lost(load, held), PATIENCE)
    after = await _runs(load)
    endure.record(
        Verdict(
            fault="namespace gone",
            in_flight=in_flight,
            accepted=len(load.accepted),
            differences=sum(after[key] != row for key, row in before.items() if _is_told(row)),
            lost=len(load.accepted) - len({note.run_key for note in load.notes()}),
            doubled=0,
        )
    )


async def _runs(load: Load) -> dict[Any, dict[str, Any]]:
    """Without how far the reconciler has come: it may look at a run in flight once more before it
    notices that the namespace is gone."""
    rows = await load.recorded("SELECT * FROM flowtrail.v_runs WHERE run_id = ANY(%s)")
    seen = ("projected_at", "waiting_on", "waiting_on_at")
    return {row["run_id"]: {k: v for k, v in row.items() if k not in seen} for row in rows}


def _is_told(row: dict[str, Any]) -> bool:
    return row["from_history"]


async def _are_told(load: Load, count: int) -> bool:
    return sum(_is_told(row) for row in (await _runs(load)).values()) == count


async def _are_lost(load: Load, count: int) -> bool:
    return [row["status"] for row in (await _runs(load)).values()].count("lost") == count


def _reconciler_says(site: Site, text: str) -> Any:
    return lambda: any(text in worker.log for worker in site.workers)
