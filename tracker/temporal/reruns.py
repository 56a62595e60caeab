"""Runs a run again, from its beginning: the same type, ref, metadata, queue and timeouts, with its
own input or another one.

The input comes from Temporal's history, as the bytes that it has, or, once that is gone, from a
complete copy in the tables. What was redacted, cut or reduced to a digest is never started with.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, cast
from uuid import UUID

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from tracker.core.memo import MEMO_FIELD
from tracker.core.payloads import Treatment
from tracker.errors import InputNotAvailable
from tracker.models.control import RerunRun
from tracker.models.wire import PayloadRead, RunRead, StartRun
from tracker.store.run_detail import get_input
from tracker.temporal.executions import read_carried
from tracker.temporal.history_reader import read_beginning
from tracker.temporal.payloads import PAYLOADS
from tracker.temporal.reach import Reach, check_engine
from tracker.temporal.start_service import StartResult, StartService

_COMPLETE = (Treatment.FULL, Treatment.ENCODED)


class Reruns:
    """Repeats runs of a namespace.

    Args:
        starts: Starts what is repeated, as any other start.
    """

    def __init__(self, reach: Reach, starts: StartService) -> None:
        self._reach = reach
        self._starts = starts

    async def rerun(self, run_id: UUID, request: RerunRun, *, actor: str) -> StartResult:
        """Start a run anew, whatever became of it; the new one tells it as `rerun_of`.

        Args:
            run_id: Ours or Temporal's.

        Raises:
            NotFound: There is no such run.
            InputNotAvailable: No input was given, and the run's own is gone.
            InvalidRequest: The input does not fit the registered schema.
            Conflict: Temporal does not drive the run, or the key was used for something else.
        """
        run = await self._reach.run(run_id)
        check_engine(run)
        async with self._reach.audited("rerun", run, actor, request.reason):
            call = await self._call(run, request.arguments)
            start = StartRun.model_construct(
                workflow_type=run.workflow_type,
                args=request.arguments,
                task_queue=call.task_queue.name or run.task_queue,
                ref_type=run.ref_type,
                ref_id=run.ref_id,
                metadata=run.metadata or await self._metadata(call),
                idempotency_key=request.idempotency_key,
            )
            call.ClearField("task_queue")
            call.memo.fields.pop(MEMO_FIELD, None)
            encoded = await self._starts.encoder.encode_again(
                start, call, of=run, digest=_digest(run.run_id, request)
            )
            return await self._starts.start_encoded(encoded)

    async def _call(self, run: RunRead, given: list[Any] | None) -> StartWorkflowExecutionRequest:
        """What the new start takes over, the run's own arguments included unless others are
        given."""
        started = await self._started(run)
        call = StartWorkflowExecutionRequest() if started is None else _taken_over(started)
        if given is not None:
            await self._starts.check_input(run.workflow_type, given)
        elif started is None:
            stored = await get_input(self._reach.database, run.namespace, run.run_id)
            call.input.payloads.extend(_stored_arguments(run, stored))
        return call

    async def _started(self, run: RunRead) -> WorkflowExecutionStartedEventAttributes | None:
        if run.temporal_run_id is None:
            return None
        client, seconds = self._reach.client, self._reach.seconds
        event = await read_beginning(client, run.workflow_id, run.temporal_run_id, seconds=seconds)
        return None if event is None else event.workflow_execution_started_event_attributes

    async def _metadata(self, call: StartWorkflowExecutionRequest) -> dict[str, Any] | None:
        carried = await read_carried(self._reach.client.data_converter, call.memo)
        return dict(carried.metadata) or None


def _taken_over(
    started: WorkflowExecutionStartedEventAttributes,
) -> StartWorkflowExecutionRequest:
    """Neither cron schedule nor header: one run is repeated, not its schedule, nor the call that
    caused it."""
    call = StartWorkflowExecutionRequest()
    for name in (
        "input",
        "workflow_execution_timeout",
        "workflow_run_timeout",
        "workflow_task_timeout",
        "retry_policy",
        "memo",
        "search_attributes",
        "priority",
    ):
        if started.HasField(name):
            getattr(call, name).CopyFrom(getattr(started, name))
    call.task_queue.name = started.task_queue.name
    return call


def _stored_arguments(run: RunRead, stored: PayloadRead | None) -> Sequence[Payload]:
    if stored is None or stored.treatment not in _COMPLETE:
        raise _not_available(run, stored)
    if stored.encoding == PAYLOADS and stored.base64 is not None:
        return Payloads.FromString(b64decode(stored.base64)).payloads
    if stored.encoding.startswith("json/") and isinstance(stored.value, list):
        return [_json_payload(value) for value in cast("list[Any]", stored.value)]
    raise _not_available(run, stored)


def _json_payload(value: Any) -> Payload:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Payload(metadata={"encoding": b"json/plain"}, data=data)


def _not_available(run: RunRead, stored: PayloadRead | None) -> InputNotAvailable:
    kept = "nothing" if stored is None else f"it as {stored.treatment!r}"
    if stored is not None and stored.key_id is not None:
        kept += f", encrypted with key {stored.key_id!r},"
    return InputNotAvailable(
        f"Temporal has no history of run {run.run_id} (any more), and the tables kept {kept} of "
        "its input; give input, or args: [] for a workflow that takes none",
        run_id=str(run.run_id),
    )


def _digest(run_id: UUID, request: RerunRun) -> bytes:
    """The same for each request to repeat this run like this, wherever its own input comes from."""
    arguments = json.dumps(request.arguments, sort_keys=True, default=str)
    return sha256(f"rerun\x1f{run_id}\x1f{arguments}".encode("utf-8", "surrogatepass")).digest()
