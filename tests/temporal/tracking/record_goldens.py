"""Records the histories of `test_replay`: `python -m tests.temporal.tracking.record_goldens`.

Histories of older versions must go on to replay, so rather add files than replace them.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from tests.temporal.tracking.golden_workflows import ACTIVITIES, WORKFLOWS
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.migrations import migrate
from tracker.temporal.plugin import TrackerPlugin
from tracker.temporal.refs import tracked_ref

FOLDER = Path(__file__).with_name("histories")


async def record(address: str, dsn: str, name: str) -> None:
    """Run the workflow once, with the plugin or without, and keep its history."""
    plugins = [TrackerPlugin(dsn)] if name == "tracked" else []
    client = await Client.connect(address, plugins=plugins)
    async with Worker(client, task_queue=name, workflows=WORKFLOWS, activities=ACTIVITIES):
        with tracked_ref("order", "o-1", metadata={"dept": "x"}):
            handle = await client.start_workflow(
                "Golden", 1, id=f"golden-{uuid.uuid4()}", task_queue=name
            )
        await handle.signal("go_on")
        await handle.result()
        first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
        history = await first.fetch_history()
    text = json.dumps(_scrubbed(json.loads(history.to_json())), indent=1)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _scrubbed(value: Any) -> Any:
    """Without what tells of this machine: stack traces, and the process at this host."""
    if isinstance(value, dict):
        return {k: _scrubbed(v) for k, v in value.items() if k != "stackTrace"}
    if isinstance(value, list):
        return [_scrubbed(part) for part in value]
    return _PROCESS.sub("golden", value) if isinstance(value, str) else value


_PROCESS = re.compile(r"\d+@\w+")


def main() -> None:
    """Record both, with servers of our own."""
    with (
        TemporaryDirectory() as folder,
        EmbeddedPostgres.start(Path(folder), durable=False) as postgres,
        EmbeddedTemporal.start(headless=True) as temporal,
    ):
        postgres.create_database("goldens")
        migrate(postgres.dsn("goldens"))
        FOLDER.mkdir(exist_ok=True)
        for name in ("tracked", "untracked"):
            asyncio.run(record(temporal.address, postgres.dsn("goldens"), name))


if __name__ == "__main__":
    main()
