"""What runs carry in memo, header and payloads: ids, refs, names, and the policy for values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.client import Client, HeaderCodecBehavior
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadCodec
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from tests.temporal import history_workflows as flows
from tests.temporal.projected import FULL, Projected, events_of, rows, rows_of
from tests.temporal.running import Handle, finished, start, worker
from tracker.core.headers import HEADER, Header
from tracker.core.ids import Ref, derived_run_id, new_id
from tracker.core.memo import Carried
from tracker.core.payloads import PayloadPolicy, PayloadRule, Treatment
from tracker.core.status import StepKind
from tracker.temporal.history import RunStart, clear_payloads

SECRET = "declined at attempt"


class Scrambling(PayloadCodec):
    """Flips every byte; the metadata says by which key, as real codecs do."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(
                metadata={"encoding": b"binary/scrambled", "key": b"k1"},
                data=bytes(byte ^ 0xFF for byte in payload.SerializeToString()),
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload.FromString(bytes(byte ^ 0xFF for byte in payload.data))
            if payload.metadata["encoding"] == b"binary/scrambled"
            else payload
            for payload in payloads
        ]


class NameSteps(Interceptor):
    """Names the steps of activities as the plugin does."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return _Inbound


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        payload = Payload(
            metadata={"encoding": b"json/plain"}, data=Header(step="take money").encode()
        )
        input.headers = {**input.headers, HEADER: payload}
        return super().start_activity(input)


@pytest.fixture
def queue() -> str:
    return f"queue-{uuid4().hex[:8]}"


@pytest.fixture
def scrambled_client(temporal_client: Client) -> Client:
    converter = DataConverter(
        payload_codec=Scrambling(),
        failure_converter_class=EncodingFailures,
    )
    return Client(
        temporal_client.service_client,
        namespace=temporal_client.namespace,
        data_converter=converter,
        header_codec_behavior=HeaderCodecBehavior.CODEC,
    )


class EncodingFailures(DefaultFailureConverter):
    """Sends messages and stacks through the codec, too."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


async def test_the_memo_binds_the_id_and_carries_the_ref(
    temporal_client: Client, queue: str
) -> None:
    run_id, workflow_id = new_id(), f"workflow-{uuid4()}"
    carried = Carried(
        id=run_id,
        workflow_id=workflow_id,
        ref=Ref("order", "o-1"),
        links=(Ref("customer", "c-1"),),
        metadata={"region": "eu"},
    )
    changed = dataclasses.replace(
        carried, links=(*carried.links, Ref("cart", "k/1")), metadata={"region": "us"}
    )
    async with worker(temporal_client, queue):
        handle = await start(
            temporal_client,
            queue,
            flows.MemoWorkflow.run,
            [changed.to_memo()],
            id=workflow_id,
            memo={"flowtrail": carried.to_memo(), "other": 1},
        )
        projected = await rows_of(await finished(handle))
    assert projected.run["id"] == run_id
    assert (projected.run["ref_type"], projected.run["ref_id"]) == ("order", "o-1")
    assert {ref for _, ref in projected.batch.refs} == {Ref("customer", "c-1"), Ref("cart", "k/1")}
    assert projected.run["metadata"] == {"region": "us"}
    assert projected.run["metadata_version"] >= 1 << 60


async def test_the_first_link_is_the_ref_of_a_run_that_had_none(
    temporal_client: Client, queue: str
) -> None:
    links = (Ref("order", "o-1"), Ref("order", "o-2"))
    memos = [Carried(links=links[:1]).to_memo(), Carried(links=links).to_memo()]
    async with worker(temporal_client, queue):
        handle = await finished(await start(temporal_client, queue, flows.MemoWorkflow.run, memos))
        plain = await rows_of(handle)
        ruled = await rows_of(handle, ref_rules=lambda _: Ref("rule", "r"))
    assert plain.run["id"] == derived_run_id("test", key_of(handle), key_of(handle))
    assert plain.run["ref_id"] == "o-1"
    assert ruled.run["ref_id"] == "r"
    assert {ref for _, ref in plain.batch.refs} == set(links)


async def test_a_rule_sees_arguments_and_ids(temporal_client: Client, queue: str) -> None:
    seen: list[RunStart] = []

    def rule(run: RunStart) -> Ref:
        seen.append(run)
        return Ref("fate", run.arguments[0])

    async with worker(temporal_client, queue):
        handle = await finished(
            await start(temporal_client, queue, flows.FateWorkflow.run, "complete")
        )
        run = (await rows_of(handle, ref_rules=rule)).run
    assert (run["ref_type"], run["ref_id"]) == ("fate", "complete")
    assert [(s.workflow_type, s.workflow_id) for s in seen] == [("FateWorkflow", handle.id)]


async def test_the_policy_decides_by_step_name(temporal_client: Client, queue: str) -> None:
    policy = PayloadPolicy(Treatment.FULL, [PayloadRule(Treatment.DIGEST, step="take money")])
    async with worker(temporal_client, queue, interceptors=[NameSteps()]):
        handle = await finished(await start(temporal_client, queue, flows.ChargeWorkflow.run, 9, 2))
        projected = await rows_of(handle, policy=policy)
    step = projected.step(StepKind.ACTIVITY)
    assert (step["name"], step["type"]) == ("take money", "charge")
    stored = projected.batch.payloads[step["input_id"]]
    assert (stored.treatment, stored.body, stored.data) == (Treatment.DIGEST, None, None)
    assert (step["error_type"], step["error_message"]) == ("CardDeclined", None)
    assert projected.attempts(step)[0].get("error_stack") is None
    # The run's own values have their own rule.
    assert projected.value(projected.run["input_id"]) == [9, 2]
    assert projected.run["error_message"] == "declined at attempt 2"


async def test_with_a_codec_only_what_it_made_is_kept(scrambled_client: Client, queue: str) -> None:
    policy = PayloadPolicy().resolved(has_codec=True)
    projected, _ = await _scrambled_run(scrambled_client, queue, policy)
    step = projected.step(StepKind.ACTIVITY)
    # Our own memo and header are read through the codec all the same.
    assert projected.run["ref_id"] == "o-1"
    assert step["name"] == "take money"
    assert projected.run.get("metadata") is None
    for owner in (projected.run, step):
        stored = projected.batch.payloads[owner["input_id"]]
        assert (stored.treatment, stored.encoding) == (Treatment.ENCODED, "binary/payloads")
        assert stored.data is not None
        kept = Payloads.FromString(stored.data).payloads
        assert {payload.metadata["encoding"] for payload in kept} == {b"binary/scrambled"}
        assert (await Scrambling().decode(kept))[1].data in (b"9", b"2")
    assert step["error_type"] == "CardDeclined"
    assert SECRET not in repr(projected.batch)


async def test_with_a_codec_clear_text_is_kept_where_the_policy_asks(
    scrambled_client: Client, queue: str
) -> None:
    policy = PayloadPolicy(Treatment.ENCODED, [PayloadRule(Treatment.FULL, step="take money")])
    projected, _ = await _scrambled_run(scrambled_client, queue, policy)
    step = projected.step(StepKind.ACTIVITY)
    assert projected.value(step["input_id"]) == [5, 9]
    assert step["error_message"] == "declined at attempt 2"
    assert "raise CardDeclined" in projected.attempts(step)[0]["error_stack"]
    assert projected.run["error_message"] is None
    stored = projected.batch.payloads[projected.run["input_id"]]
    assert stored.treatment is Treatment.ENCODED


@pytest.mark.parametrize(("treatment", "name"), [("encoded", "nap"), ("full", "short nap")])
async def test_local_activities_with_a_codec(
    scrambled_client: Client, queue: str, treatment: Treatment, name: str
) -> None:
    policy = PayloadPolicy(Treatment(treatment))
    async with worker(scrambled_client, queue):
        handle = await finished(await start(scrambled_client, queue, flows.LocalWorkflow.run))
    projected = await decoded_rows(handle, policy)
    step = projected.steps(StepKind.LOCAL_ACTIVITY)[4]
    assert (step["step_key"], step["name"], step["status"]) == ("local:6", name, "completed")
    stored = projected.batch.payloads[step["output_id"]]
    assert stored.treatment == treatment
    assert stored.body == (b"1" if treatment == "full" else None)


async def test_what_cannot_be_decoded_is_left_out(
    scrambled_client: Client, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Scrambling):
        async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
            raise ConnectionError("key service away")

    _, handle = await _scrambled_run(scrambled_client, queue, FULL)
    events, key = await events_of(handle), key_of(handle)
    clear = await clear_payloads(
        events, Broken(), namespace="test", workflow_id=handle.id, run_key=key, policy=FULL
    )
    projected = rows(events, workflow_id=handle.id, run_key=key, clear=clear)
    assert projected.run["status"] == "failed"
    assert not projected.batch.payloads
    assert {record.__dict__.get("event") for record in caplog.records} >= {"payload.undecodable"}


async def _scrambled_run(
    client: Client, queue: str, policy: PayloadPolicy
) -> tuple[Projected, Handle]:
    memo = Carried(ref=Ref("order", "o-1"), metadata={"secret": SECRET}).to_memo()
    async with worker(client, queue, interceptors=[NameSteps()]):
        handle = await finished(
            await start(client, queue, flows.ChargeWorkflow.run, 9, 2, memo={"flowtrail": memo})
        )
    return await decoded_rows(handle, policy), handle


async def decoded_rows(handle: Handle, policy: PayloadPolicy) -> Projected:
    events, key = await events_of(handle), key_of(handle)
    clear = await clear_payloads(
        events, Scrambling(), namespace="test", workflow_id=handle.id, run_key=key, policy=policy
    )
    return rows(events, workflow_id=handle.id, run_key=key, policy=policy, clear=clear)


def key_of(handle: Handle) -> UUID:
    return UUID(handle.run_id)
