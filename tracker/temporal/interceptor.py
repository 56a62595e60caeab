"""The one interceptor that a tracked client carries: it serves the client and, because it is also a
worker interceptor, every worker made from that client."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, cast

from temporalio import client, worker
from temporalio.client import WorkflowHandle

from tracker.core.externs import METADATA_SET, REF_ADDED
from tracker.core.memo import MEMO_FIELD
from tracker.temporal.activity_interceptor import TrackerActivityInbound
from tracker.temporal.refs import carried_by_client
from tracker.temporal.run_facts import current_facts
from tracker.temporal.scope import WorkerScope
from tracker.temporal.workflow_interceptor import TrackerWorkflowInbound


class TrackerInterceptor(client.Interceptor, worker.Interceptor):
    """Serves a client and the workers made from it; workers may be made in several threads."""

    def __init__(self) -> None:
        self._construction = threading.local()

    def construct_worker(self, scope: WorkerScope) -> None:
        """Note the scope of the worker that this thread is about to construct; its workflow side
        takes it."""
        self._construction.scope = scope

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        """Put the ref of `tracked_ref` on starts."""
        return _TrackerClientOutbound(next)

    def intercept_activity(
        self, next: worker.ActivityInboundInterceptor
    ) -> worker.ActivityInboundInterceptor:
        """Record attempts."""
        return TrackerActivityInbound(next)

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        """A class bound to the scope of the worker under construction (none in a replayer)."""
        scope: WorkerScope | None = vars(self._construction).pop("scope", None)
        externs = cast("dict[str, Any]", input.unsafe_extern_functions)  # pyright: ignore[reportUnknownMemberType]
        externs |= {REF_ADDED: _ref_added, METADATA_SET: _metadata_set}
        return type("BoundTrackerWorkflowInbound", (TrackerWorkflowInbound,), {"scope": scope})


class _TrackerClientOutbound(client.OutboundInterceptor):
    async def start_workflow(self, input: client.StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        input.memo = _with_ref(input.memo)
        return await self.next.start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: client.StartWorkflowUpdateWithStartInput
    ) -> client.WorkflowUpdateHandle[Any]:
        start = input.start_workflow_input
        start.memo = _with_ref(start.memo)
        return await self.next.start_update_with_start_workflow(input)

    async def create_schedule(self, input: client.CreateScheduleInput) -> client.ScheduleHandle:
        action = input.schedule.action
        if isinstance(action, client.ScheduleActionStartWorkflow):
            # Copied: the caller may use the object again, for another ref.
            action = copy(action)
            action.memo = _with_ref(action.memo)
            input.schedule = replace(input.schedule, action=action)
        return await self.next.create_schedule(input)


def _with_ref(memo: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    carried = carried_by_client()
    if carried is None or MEMO_FIELD in (memo or {}):
        return memo
    return {**(memo or {}), MEMO_FIELD: carried.to_memo()}


def _ref_added(ref_type: str, ref_id: str) -> None:
    facts = current_facts.get()
    if facts is not None:
        facts.ref_added(ref_type, ref_id)


def _metadata_set(metadata: dict[str, Any]) -> None:
    facts = current_facts.get()
    if facts is not None:
        facts.metadata_set(metadata)
