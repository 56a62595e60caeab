"""Workflows of the tests about refs, metadata, chains and children."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

from tracker.activity import current_step
from tracker.workflow import current_run, set_metadata, set_ref

SOON = timedelta(seconds=10)


@activity.defn
async def whoami() -> list[str | None]:
    """The ref and run id that reach an activity."""
    step = current_step()
    return [str(step.ref) if step.ref else None, str(step.run_id)]


@workflow.defn
class Continuing:
    """Continues as new until the count is reached; tells whose metadata each run has."""

    @workflow.run
    async def run(self, count: int, own_memo: bool = False) -> dict[str, Any]:
        set_metadata({f"run{count}": True})
        await workflow.execute_activity(whoami, start_to_close_timeout=SOON)
        if count:
            memo = {"mine": count} if own_memo else None
            workflow.continue_as_new(args=[count - 1, own_memo], memo=memo)
        return {"metadata": dict(current_run().metadata), "mine": workflow.memo_value("mine", None)}


@workflow.defn
class Describing:
    """Changes its metadata and links, with work in between so that each is a task of its own."""

    @workflow.run
    async def run(self, refs: list[list[str]]) -> list[str | None]:
        set_metadata(color="red", size=4, lines=["a"])
        await workflow.sleep(0.01)
        set_metadata(color="blue", note="x" * 300, deep={"a": 1}, gone=None)
        for ref_type, ref_id in refs:
            set_ref(ref_type, ref_id)
        return await workflow.execute_activity(whoami, start_to_close_timeout=SOON)


@workflow.defn
class Child:
    """Ends as it is told, or continues as new before that."""

    @workflow.run
    async def run(self, fate: str) -> str:
        if fate == "continue":
            workflow.continue_as_new("ok")
        if fate == "fail":
            raise ApplicationError("as told", type="Told")
        if fate in ("wait", "time out"):
            await workflow.wait_condition(lambda: False)
        return fate


@workflow.defn
class Parent:
    """Has a child of the given fate."""

    @workflow.run
    async def run(self, fate: str) -> str:
        set_metadata(told="by the parent")
        own = workflow.info().workflow_id
        child = await self._started(fate, own)
        if isinstance(child, str):
            return child
        if fate == "wait":
            child.cancel()
        try:
            return await child
        except Exception as error:
            return type(error.__cause__ or error).__name__

    async def _started(self, fate: str, own: str) -> Any:
        try:
            return await workflow.start_child_workflow(
                Child.run,
                fate,
                id=own if fate == "clash" else f"{own}/child",
                run_timeout=timedelta(milliseconds=200) if fate == "time out" else None,
            )
        except Exception as error:
            return type(error).__name__


WORKFLOWS = [Continuing, Describing, Child, Parent]
ACTIVITIES = [whoami]
