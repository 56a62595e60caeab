"""Workflows of `test_step_sugar`, apart from it: a sandbox loads their module for each run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

from tracker.errors import InvalidRequest
from tracker.workflow import Retry, current_run, set_metadata, set_ref, step, step_failure

SHORT = timedelta(seconds=10)


@activity.defn
async def greet(name: str) -> str:
    return f"Hello {name}"


@activity.defn
async def add(one: int, two: int) -> int:
    return one + two


@activity.defn(name="fail-always")
async def fail() -> None:
    raise ApplicationError("no luck", type="NoLuck")


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self) -> list[Any]:
        return [
            await step(greet, "function", name="greet them", start_to_close_timeout=SHORT),
            await step("greet", "name", result_type=str, start_to_close_timeout=SHORT),
            await step(greet, "local", name="nearby", local=True, start_to_close_timeout=SHORT),
            await step(add, args=[1, 2], start_to_close_timeout=SHORT),
        ]


@workflow.defn
class Failing:
    @workflow.run
    async def run(self, local: bool) -> list[Any]:
        retry = Retry(max_attempts=3, initial=0.01, backoff="linear")
        name = None if local else "try hard"
        try:
            await step(fail, name=name, local=local, retry=retry, start_to_close_timeout=SHORT)
        except Exception as error:
            failure = step_failure(error)
            assert failure is not None
            return [failure.step, failure.attempts, failure.retry_state, failure.error_type]
        return []


@workflow.defn(failure_exception_types=[InvalidRequest])
class Misused:
    @workflow.run
    async def run(self, misuse: str) -> None:
        if misuse == "name":
            await step(greet, "x", name="", start_to_close_timeout=SHORT)
        if misuse == "local":
            await step(greet, "x", local=True, task_queue="q", start_to_close_timeout=SHORT)
        if misuse == "metadata":
            set_metadata(when=workflow.now())
        if misuse == "ref":
            set_ref("or/der", "o-1")


@dataclasses.dataclass
class Seen:
    """`CurrentRun` as JSON."""

    run_id: UUID
    ref: str | None
    metadata: Mapping[str, Any]


@workflow.defn
class Describing:
    @workflow.run
    async def run(self) -> list[Seen]:
        before = seen()
        set_metadata(region="north", lines=[1])
        set_metadata({"region": "south"})
        set_metadata(region="south")
        set_ref("payment", "p-1")
        set_ref("payment", "p-1")
        await workflow.sleep(0.01)
        return [before, seen()]


def seen() -> Seen:
    run = current_run()
    assert run.temporal_run_id == workflow.info().run_id
    return Seen(run.run_id, str(run.ref) if run.ref else None, dict(run.metadata))
