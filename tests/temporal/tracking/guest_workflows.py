"""A workflow that talks to its log; its module loads the plugin's modules, as users' may."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow

import tracker.temporal.plugin  # noqa: F401  # It must not harm, only cost.
from tracker.workflow import Retry, set_metadata, step

SOON = timedelta(seconds=10)


@activity.defn
async def talk(how: str, where: str) -> str:
    """Says something."""
    activity.logger.info("said in %s", where)
    if how == "fail":
        raise ValueError("silence")
    return "talked"


@workflow.defn
class Talking:
    """Says something at each place from which one can."""

    @workflow.run
    async def run(self, how: str = "") -> str:
        workflow.logger.info("said in run")
        set_metadata(said=True)
        await workflow.execute_local_activity(talk, args=["", "local"], start_to_close_timeout=SOON)
        return await step(
            talk,
            args=[how, "activity"],
            name="chat",
            retry=Retry(max_attempts=2, initial=0.02),
            start_to_close_timeout=SOON,
        )

    @workflow.signal
    def nudge(self) -> None:
        workflow.logger.info("said in signal")


WORKFLOWS = [Talking]
