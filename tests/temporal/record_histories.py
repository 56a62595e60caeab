"""Records the golden histories: `python -m tests.temporal.record_histories [--rows-only]`.

Each history of `histories/` is a run of `history_workflows` on a real server; beside it stand the
rows that the projection gives. A change of the projection shows in them: rewrite them with
`--rows-only`, read the difference, and commit it with the change. Record anew only for a new kind
of event or a new server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory

from tests.temporal import history_workflows as flows
from tests.temporal.history_workflows import Timeouts
from tests.temporal.projected import FULL, NOW, Projected
from tests.temporal.running import Handle, finished, start, until_handled, worker
from tracker.core.events import TrackerEvent
from tracker.core.fold import fold
from tracker.core.ids import Ref
from tracker.core.memo import Carried
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.temporal.history import project

FOLDER = Path(__file__).parent / "histories"
QUEUE = "golden"


async def retried_activity(client: Client) -> Handle:
    return await start(client, QUEUE, flows.ChargeWorkflow.run, 3, 5)


async def exhausted_activity(client: Client) -> Handle:
    return await start(client, QUEUE, flows.ChargeWorkflow.run, 9, 2)


async def timed_out_activity(client: Client) -> Handle:
    timeouts = Timeouts(start_to_close=5, heartbeat=0.1, attempts=2)
    return await start(client, QUEUE, flows.TimeoutWorkflow.run, timeouts)


async def terminated(client: Client) -> Handle:
    handle = await start(client, QUEUE, flows.WaitWorkflow.run)
    await until_handled(handle, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    await handle.terminate(reason="enough")
    return handle


async def canceled(client: Client) -> Handle:
    handle = await start(client, QUEUE, flows.WaitWorkflow.run)
    await until_handled(handle, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    await handle.cancel()
    return handle


async def continued_as_new(client: Client) -> Handle:
    return await start(client, QUEUE, flows.ContinuedWorkflow.run, 1)


async def local_activities(client: Client) -> Handle:
    return await start(client, QUEUE, flows.LocalWorkflow.run)


async def signals_and_updates(client: Client) -> Handle:
    handle = await start(client, QUEUE, flows.ReleasedWorkflow.run)
    await handle.execute_update("rename", "name", id="first")
    await handle.signal("release", "end")
    return handle


async def timers(client: Client) -> Handle:
    return await start(client, QUEUE, flows.TimerWorkflow.run)


async def memo(client: Client) -> Handle:
    before = Carried(ref=Ref("order", "o-1"), metadata={"region": "eu"})
    after = Carried(ref=before.ref, links=(Ref("cart", "c-1"),), metadata={"region": "us"})
    return await start(
        client,
        QUEUE,
        flows.MemoWorkflow.run,
        [after.to_memo()],
        memo={"flowtrail": before.to_memo()},
    )


async def children(client: Client) -> Handle:
    prefix = f"child-{uuid4().hex[:8]}"
    handle = await start(client, QUEUE, flows.ParentWorkflow.run, prefix)
    waiting = client.get_workflow_handle(f"{prefix}-wait")
    while True:
        try:
            await waiting.terminate()
        except Exception:
            await asyncio.sleep(0.05)
        else:
            return handle


CASES: tuple[Callable[[Client], Awaitable[Handle]], ...] = (
    retried_activity,
    exhausted_activity,
    timed_out_activity,
    terminated,
    canceled,
    continued_as_new,
    local_activities,
    signals_and_updates,
    timers,
    memo,
    children,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows-only", action="store_true", help="keep the recorded histories")
    if not parser.parse_args().rows_only:
        FOLDER.mkdir(exist_ok=True)
        asyncio.run(_record())
    for path in histories():
        expected_path(path).write_text(shown(projected(path)))


def histories() -> list[Path]:
    """The recorded histories."""
    return sorted(p for p in FOLDER.glob("*.json") if not p.name.endswith(".rows.json"))


def expected_path(path: Path) -> Path:
    """Where the rows of a history stand."""
    return path.with_suffix(".rows.json")


def projected(path: Path) -> Projected:
    """The rows that the projection gives now."""
    return Projected(fold(told(path)))


def told(path: Path, length: int | None = None) -> list[TrackerEvent]:
    """What the projection tells of a history, or of its first events."""
    recorded = json.loads(path.read_text())
    history = WorkflowHistory.from_json(recorded["workflow_id"], recorded["history"])
    return project(
        history.events[:length],
        namespace="test",
        workflow_id=history.workflow_id,
        run_key=UUID(recorded["run_id"]),
        policy=FULL,
        projected_at=NOW,
    )


def length_of(path: Path) -> int:
    """Number of events of a history."""
    return len(json.loads(path.read_text())["history"]["events"])


def shown(given: Projected) -> str:
    """Rows as readable JSON, in an order of their own; absent and null mean the same in a row."""
    batch = given.batch
    payloads = [
        {"id": key, "treatment": kept.treatment, "body": given.value(key)}
        for key, kept in batch.payloads.items()
    ]
    tables: dict[str, list[Any]] = {
        "run": _listed(batch.runs.values()),
        "step": _listed(batch.steps.values()),
        "attempt": _listed(batch.attempts.values()),
        "payload": _listed(payloads),
        "ref": sorted(str(ref) for _, ref in batch.refs),
    }
    return json.dumps(tables, indent=1, default=str, sort_keys=True) + "\n"


def _listed(given: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    stated = [{name: value for name, value in row.items() if value is not None} for row in given]
    return sorted(stated, key=lambda row: str(row["id"]))


async def _record() -> None:
    with EmbeddedTemporal.start(headless=True) as server:
        client = await Client.connect(server.address, identity="recorder")
        async with worker(client, QUEUE):
            for case in CASES:
                handle = await finished(await case(client))
                history = (await handle.fetch_history()).to_json()
                recorded = {
                    "workflow_id": handle.id,
                    "run_id": handle.run_id,
                    "history": json.loads(_without_paths(history)),
                }
                path = FOLDER / f"{case.__name__}.json"
                path.write_text(json.dumps(recorded, indent=1) + "\n")


def _without_paths(history: str) -> str:
    """Stack traces without the folders of the machine on which they arose."""
    return re.sub(r'(File \\")[^"\\]*/', r"\1", history)


if __name__ == "__main__":
    main()
