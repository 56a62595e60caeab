"""Changes of the feed as Flowflare's updates: as their owner reported them, or, of what Temporal
drives, in the same shape."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from api.flowflare.rendering import run_fields, step_fields, stringify, wire_id
from tracker.core.status import RunStatus, StepStatus
from tracker.feed.entries import Entry
from tracker.store.announcing import STEP_SCALARS, STEP_VALUES
from tracker.store.database import Database
from tracker.store.run_trees import RunTree, run_with_values, step_output

FRAMES_KEPT = 1000
_STEP_BLANK = dict.fromkeys((*STEP_SCALARS, *STEP_VALUES, "output_id"))
_AS_OF_THE_CHANGE = (
    "status",
    "metadata",
    "waiting_on",
    "finished_at",
    "error_type",
    "error_message",
)


class Updates:
    """Frames for the sockets of a process, each made once."""

    def __init__(self, database: Database, namespace: str) -> None:
        self._database = database
        self._namespace = namespace
        self._frames: OrderedDict[int, asyncio.Task[str]] = OrderedDict()

    async def frame(self, entry: Entry) -> str:
        """A change as an update.

        Raises:
            DatabaseUnavailable: Its values cannot be read now.
        """
        making = self._frames.get(entry.seq)
        if making is None:
            # All sockets come at once, and wait for what the first one began.
            making = self._frames[entry.seq] = asyncio.create_task(self._made(entry))
            making.add_done_callback(partial(self._forget_failed, entry.seq))
            if len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        return await asyncio.shield(making)

    def _forget_failed(self, seq: int, made: asyncio.Task[str]) -> None:
        failed = made.cancelled() or made.exception() is not None
        if failed and self._frames.get(seq) is made:
            del self._frames[seq]

    async def _made(self, entry: Entry) -> str:
        report = entry.row["report"]
        data = stringify(await self._told(entry)) if report is None else report
        return f'{{"type":"update","data":{data}}}'

    async def _told(self, entry: Entry) -> dict[str, Any]:
        tree = None
        if entry.run_id is not None:
            tree = await run_with_values(self._database, self._namespace, entry.run_id)
        kind = "run_update" if entry.row["kind"] == "run" else "step_update"
        told = self._run(entry, tree) if kind == "run_update" else await self._step(entry, tree)
        return {"type": kind, kind: told}

    def _run(self, entry: Entry, tree: RunTree | None) -> dict[str, Any]:
        """The run as it was then, whatever became of it since; its values as they are."""
        if tree is None:
            return {"id": str(entry.run_id)}
        then = {name: entry.row["data"].get(name) for name in _AS_OF_THE_CHANGE}
        if then["status"] != RunStatus.COMPLETED:
            then["output_id"] = None
        if then["error_type"] is None:
            then["error_stack"] = None
        return run_fields(replace(tree, run=tree.run | then))

    async def _step(self, entry: Entry, tree: RunTree | None) -> dict[str, Any]:
        step = _STEP_BLANK | entry.row["data"]
        place, output = await step_output(self._database, UUID(step["id"]))
        if step["status"] != StepStatus.COMPLETED:
            output = None
        run_id = str(entry.run_id) if tree is None else wire_id(tree.run)
        return step_fields(step, run_id, place, output)
