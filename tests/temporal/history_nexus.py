"""A Nexus service and a workflow that calls it in every way."""

from __future__ import annotations

import nexusrpc
from temporalio import nexus, workflow

from tests.temporal.history_workflows import FateWorkflow


@nexusrpc.service
class Prices:
    """A Nexus service."""

    quote: nexusrpc.Operation[str, str]
    survey: nexusrpc.Operation[str, str]


@nexusrpc.handler.service_handler(service=Prices)
class PricesHandler:
    """Answers at once, or by a workflow."""

    @nexusrpc.handler.sync_operation
    async def quote(self, _context: nexusrpc.handler.StartOperationContext, what: str) -> str:
        if what == "nothing":
            raise nexusrpc.OperationError("no price", state=nexusrpc.OperationErrorState.FAILED)
        return f"{what}: 1"

    @nexus.workflow_run_operation
    async def survey(
        self, context: nexus.WorkflowRunOperationContext, what: str
    ) -> nexus.WorkflowHandle[str]:
        return await context.start_workflow(
            FateWorkflow.run, what, id=f"survey-{context.request_id}"
        )


@workflow.defn
class NexusWorkflow:
    """One operation of each kind."""

    @workflow.run
    async def run(self, endpoint: str) -> list[str]:
        prices = workflow.create_nexus_client(service=Prices, endpoint=endpoint)
        told = [
            await prices.execute_operation(Prices.quote, "tea"),
            await prices.execute_operation(Prices.survey, "complete"),
        ]
        try:
            await prices.execute_operation(Prices.quote, "nothing")
        except Exception as error:
            told.append(type(error).__name__)
        return told
