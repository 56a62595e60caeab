from __future__ import annotations
import asyncio, uuid, pytest
from typing import Any
from datetime import timedelta
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from tests.temporal.tracking import ending_workflows as e
from tests.temporal.tracking.ending_workflows import *
from tests.temporal.tracking.harness import Tracked
from tests.waiting import eventually


def show(run, title=""):
    print(
        "RUN",
        title,
        {
            k: str(v)
            for k, v in vars(run).items()
            if v is not None
            and k
            not in (
                "steps",
                "namespace",
                "engine",
                "ordered_at",
                "worker_identity",
                "first_run_key",
                "task_queue",
            )
        },
    )
    for s in run.steps:
        print(
            "  STEP",
            {
                k: str(v)
                for k, v in vars(s).items()
                if v is not None
                and k
                not in (
                    "tries",
                    "namespace",
                    "run_id",
                    "temporal_run_id",
                    "step_id",
                    "workflow_type",
                    "task_queue",
                )
            },
        )
        for t in s.tries:
            print(
                "     TRY",
                {
                    k: str(v)[-120:]
                    for k, v in vars(t).items()
                    if v is not None
                    and k
                    not in (
                        "tries",
                        "namespace",
                        "run_id",
                        "temporal_run_id",
                        "workflow_type",
                        "step_id",
                        "attempt_id",
                        "worker_identity",
                        "task_queue",
                        "build_id",
                        "step_kind",
                        "step_name",
                    )
                },
            )


ACTS = [hang, clean_up]


async def go(tracked, wf, *args, act=None, **opts):
    async with tracked.worker(WORKFLOWS, ACTS):
        h = await tracked.start(wf, *args, **opts)
        if act:
            await act(h)
        try:
            print("RESULT", await h.result())
        except WorkflowFailureError as err:
            print("FAILED", repr(err.cause), repr(err.cause.__cause__))
    for r in await tracked.runs():
        show(r, "live")
    try:
        show(await tracked.corrected(h), "corrected")
    except AssertionError as err:
        print("MISMATCH", str(err)[:1500])
    return h


async def cancel(h):
    async def pend():
        d = await h.describe()
        return any(p.state == 2 for p in d.raw_description.pending_activities)

    await eventually(pend)
    await h.cancel()


@pytest.mark.parametrize("how", ["clean up", "swallow", "plain"])
async def test_cancel(tracked, how):
    print("CASE cancel", how)
    await go(tracked, "Hanging", how, act=cancel)


async def test_cancel_activity(tracked):
    print("CASE cancel act")
    await go(tracked, "Hanging", "cancel activity")


async def test_swallowing(tracked):
    print("CASE swallow")

    async def c(h):
        await h.cancel()

    await go(tracked, "Swallowing", act=c)


async def test_terminate(tracked):
    print("CASE terminate")

    async def c(h):
        await cancel.__wrapped__(h) if hasattr(cancel, "__wrapped__") else None

        async def pend():
            d = await h.describe()
            return any(p.state == 2 for p in d.raw_description.pending_activities)

        await eventually(pend)
        await h.terminate("no more")

    await go(tracked, "Hanging", "plain", act=c)


async def test_can(tracked):
    print("CASE can")
    await go(tracked, "Continued", 1)


async def test_retried(tracked):
    print("CASE retried")
    await go(
        tracked, "Retried", 2, retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=20))
    )


@pytest.mark.parametrize("how", ["ok", "fail", "time out", "clash"])
async def test_child(tracked, how):
    print("CASE child", how)
    await go(tracked, "Parent", how)


async def test_buggy(tracked):
    print("CASE buggy")

    async def c(h):
        async def f():
            try:
                return (await tracked.run(h)).task_failure_type
            except ValueError:
                return None

        await eventually(f)
        show(await tracked.run(h), "mid")
        Buggy.mended = True

    Buggy.mended = False
    from temporalio.worker import UnsandboxedWorkflowRunner

    async with tracked.worker(WORKFLOWS, ACTS, workflow_runner=UnsandboxedWorkflowRunner()):
        h = await tracked.start("Buggy")
        await c(h)
        print(await h.result())
    show(await tracked.run(h))
    show(await tracked.corrected(h))
