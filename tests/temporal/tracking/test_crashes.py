"""Worker processes that are told to stop, or killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from tests.proxy import TcpProxy
from tests.temporal.tracking.crash_workflows import ACTIVITIES, WORKFLOWS
from tests.temporal.tracking.harness import Tracked
from tests.temporal.tracking.test_outages import port
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
PATIENCE = 30.0
"""Seconds for a process to load all its modules and do its part, on a busy machine."""


async def test_killed_in_the_middle_of_a_step(tracked: Tracked, tmp_path: Path) -> None:
    """SIGKILL while one run is in an activity and another one in a local activity."""
    marks = [tmp_path / "remote", tmp_path / "local"]
    async with process(tracked, tracked.dsn, max_wait=5) as worker:
        remote = await tracked.start("Killed", str(marks[0]), False)
        local = await tracked.start(
            "Killed", str(marks[1]), True, task_timeout=timedelta(seconds=1)
        )
        await eventually(lambda: all(mark.exists() for mark in marks), PATIENCE)

        async def both_are_recorded() -> bool:
            runs = await tracked.runs()
            return len(runs) == 2 and all(run.steps for run in runs)

        await eventually(both_are_recorded)
        worker.kill()
        await worker.wait()

    for handle in (remote, local):
        [step] = (await tracked.run(handle)).steps
        assert (step.status, step.outcomes) == ("started", [(1, "running")])
    async with tracked.worker(WORKFLOWS, ACTIVITIES, identity="second"):
        for handle in (remote, local):
            assert await handle.result() == ["second time", "finished"]

    live = await tracked.run(remote)
    for seen in (live, await tracked.after_history(remote)):
        held = seen.step("hold_once")
        assert (held.status, held.attempts, held.output) == ("completed", 2, "second time")
        assert held.outcomes == [(1, "lost"), (2, "completed")]
        first, second = held.tries
        assert first.worker_identity != "second" == second.worker_identity
        assert seen.step("finish").outcomes == [(1, "completed")]
    live = await tracked.run(local)
    for seen in (live, await tracked.after_history(local)):
        assert seen.statuses == [("hold_once", "completed"), ("finish", "completed")]
        held = seen.step("hold_once")
        # Nothing of the first try is in history, so the second one is the first again.
        assert (held.outcomes, held.output) == ([(1, "completed")], "second time")
        assert held.started_at <= held.finished_at <= seen.step("finish").started_at


async def test_told_to_stop_while_a_flush_is_awaited(tracked: Tracked, tmp_path: Path) -> None:
    mark = tmp_path / "done"
    async with TcpProxy(port(tracked.dsn)) as proxy:
        async with process(tracked, proxy.redirect(tracked.dsn), max_wait=20) as worker:
            handle = await tracked.start("Interrupted")
            await eventually(lambda: is_recorded(tracked), PATIENCE)
            proxy.hang()
            await handle.signal("go_on", str(mark))
            await eventually(mark.exists)
            worker.terminate()

            async def step_is_done_for_temporal() -> bool:
                kinds = [event.event_type for event in await tracked.events(handle)]
                return 12 in kinds

            # The result goes out at once; the flush goes on.
            await eventually(step_is_done_for_temporal)
            assert (await tracked.runs())[0].steps == []
            proxy.pass_on()
            assert await asyncio.wait_for(worker.wait(), PATIENCE) == 0
        assert (await tracked.run(handle)).statuses == [("finish", "completed")]
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        assert await handle.result() == ["finished", "finished"]
    run = await tracked.run(handle)
    for seen in (run, await tracked.after_history(handle)):
        assert seen.status == "completed"
        assert [step.outcomes for step in seen.steps if step.kind == "activity"] == [
            [(1, "completed")],
            [(1, "completed")],
        ]


@asynccontextmanager
async def process(
    tracked: Tracked, dsn: str, max_wait: float
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker process on the test's queue; killed at the end if it is still there."""
    arguments = (
        tracked.connection.service_client.config.target_host,
        tracked.namespace,
        tracked.queue,
        dsn,
        str(tracked.spill_dir),
        str(max_wait),
    )
    program = "tests.temporal.tracking.crash_worker"
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", program, *arguments, cwd=ROOT
    )
    try:
        yield worker
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def is_recorded(tracked: Tracked) -> bool:
    """Whether any run is on record."""
    return bool(await tracked.runs())
