"""The start of a run that repeats another one, where a codec's key depends on the workflow id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import Payload
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest
from temporalio.converter import (
    DataConverter,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from tests.starts import request
from tracker.core.ids import new_id
from tracker.core.memo import MEMO_FIELD
from tracker.core.status import Engine, RunStatus
from tracker.models.wire import RunRead
from tracker.temporal.start_encoder import StartEncoder


class Bound(PayloadCodec, WithSerializationContext):
    """Marks payloads with the workflow id, and decodes those of its own alone."""

    def __init__(self, workflow_id: str = "") -> None:
        self._mark = workflow_id.encode()

    def with_context(self, context: SerializationContext) -> Bound:
        assert isinstance(context, WorkflowSerializationContext)
        return Bound(context.workflow_id or "")

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(
                metadata={"encoding": b"binary/bound", "of": self._mark}, data=p.SerializeToString()
            )
            for p in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        assert all(p.metadata["of"] == self._mark for p in payloads)
        return [Payload.FromString(p.data) for p in payloads]


CONVERTER = replace(DataConverter.default, payload_codec=Bound())


def a_run(workflow_id: str) -> RunRead:
    return RunRead(
        run_id=new_id(),
        namespace="default",
        engine=Engine.TEMPORAL,
        workflow_type="OrderFulfilment",
        workflow_id=workflow_id,
        status=RunStatus.FAILED,
        ordered_at=datetime.now(UTC),
    )


async def read(workflow_id: str, payloads: Sequence[Payload]) -> list[Any]:
    context = WorkflowSerializationContext(namespace="default", workflow_id=workflow_id)
    return await CONVERTER.with_context(context).decode(payloads)


async def again(run: RunRead, **given: Any) -> tuple[UUID, StartWorkflowExecutionRequest]:
    """The call that repeats a run whose input was {"order": "o-1"}."""
    encoder = StartEncoder("default", data_converter=CONVERTER)
    first = await encoder.encode_async(request(workflow_id=run.workflow_id))
    call = StartWorkflowExecutionRequest()
    call.input.CopyFrom(StartWorkflowExecutionRequest.FromString(first.request).input)
    call.workflow_run_timeout.seconds = 7
    start = request().model_copy(update={"input": None, "args": given.get("args")})
    start.model_fields_set.discard("input")
    accepted = await encoder.encode_again(start, call, of=run, digest=b"d")
    assert (accepted.rerun_of, accepted.digest) == (run.run_id, b"d")
    return accepted.id, StartWorkflowExecutionRequest.FromString(accepted.request)


async def test_the_input_is_encoded_anew_for_the_new_workflow_id() -> None:
    run_id, call = await again(a_run("order-1"))
    assert call.workflow_id == f"OrderFulfilment/{run_id}"
    assert await read(call.workflow_id, call.input.payloads) == [{"order": "o-1"}]
    [memo] = await read(call.workflow_id, [call.memo.fields[MEMO_FIELD]])
    assert memo["id"] == call.request_id == str(run_id)
    assert call.workflow_run_timeout.seconds == 7


async def test_another_input_takes_its_place() -> None:
    _, call = await again(a_run("order-1"), args=["other", 2])
    assert await read(call.workflow_id, call.input.payloads) == ["other", 2]
