"""Stands between Temporal and workflow code: tells `RunFacts` what happens, and puts the carrier
(memo for children, header for activities) on what the workflow starts.

The class runs in every tracked worker and in replayers. What it adds to commands must not depend
on whether anything is recorded: the same with the recorder away, in replay, or disabled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.worker import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)

from tracker.core.headers import HEADER, Header
from tracker.core.memo import MEMO_FIELD
from tracker.core.status import StepKind, micros
from tracker.log import set_log_fields
from tracker.temporal.run_facts import RunFacts, current_facts
from tracker.temporal.scope import WorkerScope
from tracker.workflow import pending_step


class TrackerWorkflowInbound(WorkflowInboundInterceptor):
    """Outermost workflow interceptor; one instance per workflow instance."""

    scope: WorkerScope | None = None

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """Put ourselves around what the workflow asks for, too."""
        self._facts = RunFacts(self.scope, outbound.info().raw_memo)
        super().init(_TrackerWorkflowOutbound(outbound, self._facts))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        """Run the workflow function between `run.started` and its close."""
        self._enter()
        self._facts.started(input.args)
        with self._telling_an_end():
            result = await self.next.execute_workflow(input)
        self._facts.completed(result)
        return result

    async def handle_signal(self, input: HandleSignalInput) -> None:
        """Signals are recorded from history, which alone can tell two of them apart; what a handler
        raises ends the run as if the workflow function had raised it."""
        self._enter()
        self._facts.progressed()
        with self._telling_an_end():
            await self.next.handle_signal(input)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        """Record a rejected update: it leaves no trace in history."""
        try:
            self.next.handle_update_validator(input)
        except Exception as error:
            # A step of its own: the server lets a later update have the same id.
            key = f"rejected:{input.id}"
            step = self._facts.step_identity(StepKind.UPDATE, key, input.update)
            self._facts.step_started(step, input.args, {"rejected": True})
            self._facts.step_closed(step, error)
            raise

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        """Run an accepted update as a step."""
        self._enter()
        step = self._facts.step_identity(StepKind.UPDATE, input.id, input.update)
        self._facts.step_started(step, input.args)
        try:
            result = await self.next.handle_update_handler(input)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) or workflow.is_failure_exception(error):
                self._facts.step_closed(step, error)
            else:
                self._facts.raised(error)
            raise
        self._facts.step_closed(step, None, result)
        return result

    @contextmanager
    def _telling_an_end(self) -> Generator[None]:
        try:
            yield
        except workflow.ContinueAsNewError:
            self._facts.continued_as_new()
            raise
        except (Exception, asyncio.CancelledError) as error:
            self._facts.raised(error)
            raise

    def _enter(self) -> None:
        current_facts.set(self._facts)
        set_log_fields(self._facts.log_fields())


class _TrackerWorkflowOutbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, facts: RunFacts) -> None:
        super().__init__(next)
        self._facts = facts
        self._activities = 0

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        """Give the activity's worker what it cannot know."""
        self._count(input)
        input.headers = _with_header(input.headers, self._header())
        return self.next.start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        """Number local activities, in replay too: the ordinal is their identity."""
        self._count(input)
        header = self._header()
        header = replace(
            header,
            # History has no header of a local activity; it knows the name by the summary.
            step=header.step or self._facts.shown(input.summary),
            ordinal=self._activities,
            asked_at=micros(self._facts.now()),
        )
        input.headers = _with_header(input.headers, header)
        return self.next.start_local_activity(input)

    async def start_child_workflow(
        self, input: StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        """Hand ref and metadata down, and record the child as a step."""
        inherited = self._facts.carried().for_child().to_memo()
        if inherited and MEMO_FIELD not in (input.memo or {}):
            input.memo = {**(input.memo or {}), MEMO_FIELD: inherited}
        handle = await self.next.start_child_workflow(input)
        self._follow_child(handle, input)
        return handle

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        """Keep the carrier: of a memo the next run gets what the workflow names, else what stood at
        the start of this run, in neither case what was changed meanwhile."""
        carried = replace(self._facts.carried(), id=None, workflow_id=None).to_memo()
        if input.memo:
            if carried and MEMO_FIELD not in input.memo:
                input.memo = {**input.memo, MEMO_FIELD: carried}
        elif self._facts.carries_changes():
            at_start = self._facts.memo_at_start()
            if at_start is not None:
                input.memo = {**at_start, MEMO_FIELD: carried}
        self.next.continue_as_new(input)

    def _count(self, input: StartActivityInput | StartLocalActivityInput) -> None:
        # As the SDK draws its sequence numbers, which is all that history has of a local activity:
        # one count for both kinds, and none for a call that it refuses for want of a timeout.
        if input.start_to_close_timeout or input.schedule_to_close_timeout:
            self._activities += 1

    def _header(self) -> Header:
        carried, pending = self._facts.carried(), pending_step()
        return Header(
            step=pending.name if pending else None,
            retry=pending.retry if pending else None,
            ref=carried.effective_ref,
            run_id=self._facts.run_id(),
        )

    def _follow_child(
        self, handle: workflow.ChildWorkflowHandle[Any, Any], input: StartChildWorkflowInput
    ) -> None:
        run_id = handle.first_execution_run_id
        if run_id is None:
            return
        step = self._facts.step_identity(StepKind.CHILD_WORKFLOW, run_id, input.workflow)
        detail = {"workflow_id": input.id, "run_id": run_id}
        self._facts.step_started(step, input.args, detail)

        def ended(child: Any) -> None:
            if child.cancelled():
                self._facts.step_closed(step, asyncio.CancelledError())
                return
            error = child.exception()
            self._facts.step_closed(step, error, None if error is not None else child.result())

        handle.add_done_callback(ended)


def _with_header(headers: Mapping[str, Payload], header: Header) -> Mapping[str, Payload]:
    # json/plain by hand: the reader must not depend on the user's data converter.
    payload = Payload(metadata={"encoding": b"json/plain"}, data=header.encode())
    return {**headers, HEADER: payload}
