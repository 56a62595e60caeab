"""Workers: threads, processes, several of them, and one that takes over from another."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import SharedStateManager

from tests.temporal.tracking.harness import Handle, RecordedRun, Tracked
from tests.temporal.tracking.worker_workflows import WORKFLOWS, echo, hand_over, print_pages
from tests.waiting import eventually
from tracker.core.events import AttemptStarted, RunStarted, StepStarted
from tracker.temporal.refs import tracked_ref


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, Any]]:
    """Worker options for a process pool; spawned, for a fork would copy our threads."""
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=context) as pool,
        context.Manager() as manager,
        ThreadPoolExecutor(1) as poller,
    ):
        state = SharedStateManager.create_from_multiprocessing(manager, poller)
        yield {"activity_executor": pool, "shared_state_manager": state}


@pytest.fixture(params=["threads", "processes"])
def sync(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Worker options for sync activities."""
    return request.getfixturevalue("processes") if request.param == "processes" else {}


async def test_a_sync_activity(tracked: Tracked, sync: dict[str, Any]) -> None:
    client = tracked.client()
    async with tracked.worker(WORKFLOWS, [print_pages], client=client, **sync):
        with tracked_ref("order", "o-1"):
            handle = await tracked.start("Printing", "retry", client=client)
        result = await handle.result()
    run = await tracked.run(handle)
    assert result["in_main_thread"] == bool(sync) == (result.pop("in_process") != os.getpid())
    assert (result["step"], result["ref"], result["run_id"]) == (
        "print",
        "order/o-1",
        str(run.run_id),
    )
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("print")
        assert (step.status, step.progress) == ("completed", {"done": 3, "total": 3})
        assert step.output["step"] == "print"
        assert step.outcomes == [(1, "failed"), (2, "completed")]
        assert [one.annotations for one in step.tries] == [
            {"pages": 3, "attempt": 1},
            {"pages": 3, "attempt": 2},
        ]
        failed = step.tries[0]
        assert (failed.error_type, failed.error_message) == ("OutOfPaper", "tray 2 is empty")
        assert "in print_pages" in failed.error_stack


async def test_a_sync_error_keeps_its_type(tracked: Tracked, sync: dict[str, Any]) -> None:
    async with tracked.worker(WORKFLOWS, [print_pages], **sync):
        handle = await tracked.start("Printing", "refuse")
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    cause: Any = failed.value.cause.__cause__
    assert (cause.type, cause.message, cause.details) == ("NoPrinter", "no printer", ({"tray": 2},))
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("print")
        assert (step.status, step.error_type, step.outcomes) == (
            "failed",
            "NoPrinter",
            [(1, "failed")],
        )
        assert step.tries[0].annotations == {"pages": 3, "attempt": 1}


@pytest.mark.parametrize("fails", [False, True])
async def test_async_completion(tracked: Tracked, fails: bool) -> None:
    async with tracked.worker(WORKFLOWS, [hand_over]):
        handle = await tracked.start("HandingOver")

        async def handed_over() -> RecordedRun:
            run = await tracked.run(handle)
            assert run.steps
            return run

        run = await eventually(handed_over)
        assert run is not None
        assert run.step("hand_over").outcomes == [(1, "running")]
        elsewhere = tracked.connection.get_async_activity_handle(
            workflow_id=handle.id, run_id=str(run.temporal_run_id), activity_id="1"
        )
        if fails:
            await elsewhere.fail(ValueError("not today"))
            with pytest.raises(WorkflowFailureError):
                await handle.result()
        else:
            await elsewhere.complete("done elsewhere")
            assert await handle.result() == "done elsewhere"
    run = await tracked.corrected(handle)
    step = run.step("hand_over")
    [only] = step.tries
    if fails:
        assert (run.status, step.status, step.error_type) == ("failed", "failed", "ValueError")
        assert (only.outcome, only.error_message) == ("failed", "not today")
    else:
        assert (run.status, step.status, step.output) == (
            "completed",
            "completed",
            "done elsewhere",
        )
        assert (only.outcome, only.error_type) == ("completed", None)


@pytest.mark.parametrize("cached", [100, 0])
async def test_a_worker_takes_over(tracked: Tracked, cached: int) -> None:
    first, second = tracked.client(), tracked.client()
    options = {"max_cached_workflows": cached}
    async with tracked.worker(WORKFLOWS, [echo], client=first, identity="first", **options):
        handle = await tracked.start("Stages")
        await eventually(lambda: has_steps(tracked, handle, 2))
    async with tracked.worker(WORKFLOWS, [echo], client=second, identity="second", **options):
        await handle.signal("go_on")
        await eventually(lambda: has_steps(tracked, handle, 5))
        await handle.signal("go_on")
        assert await handle.result() == ["first", "second", "third", "fourth", "fifth"]

    told = Counter(type(event) for event in tracked.heard)
    assert (told[RunStarted], told[AttemptStarted], told[StepStarted]) == (2, 4, 1)
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.output) == ("completed", await handle.result())
        steps = {step.input[0]: step for step in seen.steps if step.kind != "signal"}
        assert set(steps) == {"first", "second", "third", "fourth", "fifth"}
        assert [(s.kind, s.outcomes) for s in seen.steps if s.kind == "local_activity"] == [
            ("local_activity", [(1, "completed")])
        ] * 2
        workers = [one.worker_identity for s in steps.values() for one in s.tries]
        assert workers == ["first", "first", "second", "second"]


async def test_several_workers_in_one_process(tracked: Tracked) -> None:
    """Two on one queue, one on another; one plugin, hence one recorder for all of them."""
    plugin, address = tracked.plugin(), tracked.connection.service_client.config.target_host
    async with AsyncExitStack() as stack:
        for identity, queue in (("a", tracked.queue), ("b", tracked.queue), ("c", "another")):
            # The SDK wants a connection for each worker of a queue.
            client = await Client.connect(address, namespace=tracked.namespace, plugins=[plugin])
            await stack.enter_async_context(
                tracked.worker(
                    WORKFLOWS, [echo], client=client, identity=identity, task_queue=queue
                )
            )
        handles = [await tracked.start("Stages") for _ in range(4)]
        handles += [await tracked.start("Stages", task_queue="another") for _ in range(2)]
        for handle in handles:
            await handle.signal("go_on")
            await handle.signal("go_on")
        results = await asyncio.gather(*(handle.result() for handle in handles))
    assert [len(result) for result in results] == [5] * 6
    runs = [run for run in await tracked.runs() if run.workflow_type == "Stages"]
    assert len(runs) == 6
    for run in runs:
        assert (run.status, len(run.steps)) == ("completed", 5)
        served_by = {one.worker_identity for step in run.steps for one in step.tries}
        assert served_by <= ({"c"} if run.task_queue == "another" else {"a", "b"})
        assert all(one.task_queue == run.task_queue for s in run.steps for one in s.tries)


async def test_two_event_loops_in_two_threads(tracked: Tracked) -> None:
    plugin = tracked.plugin()
    started = [await tracked.start("Echoing", f"word {n}", task_queue=f"loop-{n}") for n in (1, 2)]

    async def serve(number: int) -> Any:
        address = tracked.connection.service_client.config.target_host
        client = await Client.connect(address, namespace=tracked.namespace, plugins=[plugin])
        async with tracked.worker(WORKFLOWS, [echo], client=client, task_queue=f"loop-{number}"):
            return await client.get_workflow_handle(started[number - 1].id).result()

    results = await asyncio.gather(
        asyncio.to_thread(asyncio.run, serve(1)), asyncio.to_thread(asyncio.run, serve(2))
    )
    assert results == ["word 1", "word 2"]
    recorded = {(run.task_queue, run.output, run.status) for run in await tracked.runs()}
    assert recorded == {("loop-1", "word 1", "completed"), ("loop-2", "word 2", "completed")}


async def has_steps(tracked: Tracked, handle: Handle, count: int) -> bool:
    """Whether so many steps of the run are on record as completed."""
    steps = (await tracked.run(handle)).steps
    return [step.status for step in steps] == ["completed"] * count
