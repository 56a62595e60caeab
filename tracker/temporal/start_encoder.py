"""Makes the complete call to Temporal out of a request to start: what the outbox keeps.

Everything that could change later is settled here (the arguments' bytes, the ids, the policies),
so that every try sends the same call. What a reader gets wrong: `USE_EXISTING` is never sent,
since its answer does not tell whose run it is; the starter finds the existing run itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload, Payloads, Priority
from temporalio.api.enums.v1 import WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest
from temporalio.converter import DataConverter, WorkflowSerializationContext

from tracker.core.ids import new_id
from tracker.core.memo import MEMO_FIELD, Carried
from tracker.core.payloads import PayloadPolicy
from tracker.errors import ConfigurationError, InvalidRequest
from tracker.models.wire import RunRead, StartRun
from tracker.store.accept import AcceptedStart
from tracker.store.accept_signal import AcceptedSignal, Addressee
from tracker.temporal.payloads import stored_from_proto
from tracker.temporal.signal_encoder import SignalDraft, converted
from tracker.temporal.tracing import trace_header


class StartEncoder:
    """Encodes starts and signals of one namespace; one per process is enough.

    Args:
        namespace: Temporal namespace.
        data_converter: The one that the namespace's workers use.
        policy: What the tracker keeps of inputs and metadata.
        task_queue: For starts that name none.
        identity: Who starts, as Temporal shows it.
    """

    def __init__(
        self,
        namespace: str,
        *,
        data_converter: DataConverter = DataConverter.default,
        policy: PayloadPolicy | None = None,
        task_queue: str | None = None,
        identity: str = "flowtrail",
    ) -> None:
        self.namespace = namespace
        self._converter = data_converter
        has_codec = data_converter.payload_codec is not None
        self._policy = (policy or PayloadPolicy()).resolved(has_codec=has_codec)
        self._task_queue = task_queue
        self._identity = identity
        self._needs_loop = has_codec or data_converter.external_storage is not None

    def encode(
        self, start: StartRun, *, workflow_type: str | None = None, task_queue: str | None = None
    ) -> AcceptedStart:
        """Encode a start without an event loop; otherwise `encode_async`.

        Raises:
            ConfigurationError: The data converter has a payload codec or external storage.
        """
        if self._needs_loop:
            raise _needs_a_loop(
                "use start_in_transaction_async, or encode with `await encoder.encode_async(…)` "
                "first and give the result to insert_start"
            )
        draft = self._draft(start, workflow_type, task_queue)
        memo = draft.converter.payload_converter.to_payloads([draft.memo])
        return self._accepted(draft, draft.arguments, memo[0])

    async def encode_async(
        self, start: StartRun, *, workflow_type: str | None = None, task_queue: str | None = None
    ) -> AcceptedStart:
        """Encode a start.

        Args:
            workflow_type: What the request's type resolved to, where that was an alias.
            task_queue: Where its workers are, for a request that names none.

        Raises:
            InvalidRequest: No task queue, or arguments that the data converter refuses.
        """
        draft = self._draft(start, workflow_type, task_queue)
        return self._accepted(draft, await self._arguments(draft), await self._memo(draft))

    async def encode_again(
        self, start: StartRun, call: StartWorkflowExecutionRequest, *, of: RunRead, digest: bytes
    ) -> AcceptedStart:
        """Encode the start of a run that repeats another one.

        Args:
            start: What the repetition is: type, ref, metadata, task queue, idempotency key;
                `args`, unless they are those of `call`.
            call: What is taken over as it is: the encoded input, timeouts, policies, memo.
            of: The run that is repeated.
            digest: `AcceptedStart.digest`: the same for each request to repeat it like this.

        Raises:
            InvalidRequest: No task queue is known.
        """
        draft = self._draft(start, None, None)
        request = draft.request(self._identity)
        request.MergeFrom(call)
        if start.args is None:
            arguments = await self._recoded(call.input.payloads, of.workflow_id, draft)
        else:
            arguments = await self._arguments(draft)
        request.ClearField("input")
        request.input.payloads.extend(arguments)
        accepted = self._stored(draft, request, arguments, await self._memo(draft))
        return replace(accepted, digest=digest, rerun_of=of.run_id)

    async def _arguments(self, draft: _Draft) -> Sequence[Payload]:
        given = draft.start.arguments
        if not (self._needs_loop and given):
            return draft.arguments
        return await draft.converter.encode(given)

    async def _memo(self, draft: _Draft) -> Payload:
        if self._needs_loop:
            return (await draft.converter.encode([draft.memo]))[0]
        return draft.converter.payload_converter.to_payloads([draft.memo])[0]

    async def _recoded(
        self, payloads: Sequence[Payload], workflow_id: str, draft: _Draft
    ) -> Sequence[Payload]:
        """The same arguments for another workflow id, on which a codec's key may depend."""
        if self._converter.payload_codec is None or not payloads:
            return payloads
        before = self._converter.with_context(
            WorkflowSerializationContext(namespace=self.namespace, workflow_id=workflow_id)
        )
        assert before.payload_codec is not None
        assert draft.converter.payload_codec is not None
        clear = await before.payload_codec.decode(payloads)
        return await draft.converter.payload_codec.encode(clear)

    def digest(self, start: StartRun) -> bytes:
        """What `AcceptedStart.digest` would be, also where no task queue is known.

        Raises:
            InvalidRequest: The data converter refuses the arguments.
        """
        return _digest(start, _Draft(self.namespace, self._converter, start, None, "").arguments)

    def encode_signal(self, name: str, args: Sequence[Any], addressee: Addressee) -> AcceptedSignal:
        """Encode a signal without an event loop; otherwise `encode_signal_async`.

        Raises:
            ConfigurationError: The data converter has a payload codec or external storage.
        """
        if self._needs_loop:
            raise _needs_a_loop("use signal_in_transaction_async")
        draft = SignalDraft(self.namespace, self._converter, name, args, addressee)
        return draft.accepted(draft.arguments, self._identity)

    async def encode_signal_async(
        self, name: str, args: Sequence[Any], addressee: Addressee
    ) -> AcceptedSignal:
        """Encode a signal.

        Raises:
            InvalidRequest: Arguments that the data converter refuses.
            PayloadTooLarge: Arguments of more bytes than Temporal takes.
        """
        draft = SignalDraft(self.namespace, self._converter, name, args, addressee)
        if not self._needs_loop:
            return draft.accepted(draft.arguments, self._identity)
        encoded = await draft.converter.encode(args) if args else []
        return draft.accepted(encoded, self._identity)

    def _draft(self, start: StartRun, workflow_type: str | None, task_queue: str | None) -> _Draft:
        queue = start.task_queue or task_queue or self._task_queue
        if queue is None:
            raise InvalidRequest(
                "no task queue is known for this start: give task_queue", field="task_queue"
            )
        return _Draft(self.namespace, self._converter, start, workflow_type, queue)

    def _accepted(
        self, draft: _Draft, arguments: Sequence[Payload], memo: Payload
    ) -> AcceptedStart:
        request = draft.request(self._identity)
        request.input.payloads.extend(arguments)
        return self._stored(draft, request, arguments, memo)

    def _stored(
        self,
        draft: _Draft,
        request: StartWorkflowExecutionRequest,
        arguments: Sequence[Payload],
        memo: Payload,
    ) -> AcceptedStart:
        start, handling = draft.start, self._policy.handling(draft.workflow_type)
        request.memo.fields[MEMO_FIELD].CopyFrom(memo)
        keeps_metadata = bool(start.metadata) and handling.keeps_text
        return AcceptedStart(
            id=draft.id,
            namespace=self.namespace,
            workflow_type=draft.workflow_type,
            workflow_id=draft.workflow_id,
            task_queue=draft.task_queue,
            request=request.SerializeToString(deterministic=True),
            digest=_digest(start, draft.arguments),
            on_conflict="existing" if start.id_conflict_policy == "use_existing" else "reject",
            ref=start.ref,
            metadata=json.dumps(start.metadata).encode() if keeps_metadata else None,
            input=stored_from_proto(Payloads(payloads=arguments), handling),
            idempotency_key=start.idempotency_key,
        )


def _needs_a_loop(remedy: str) -> ConfigurationError:
    return ConfigurationError(
        "the data converter's payload codec (or external storage) needs an event loop: " + remedy
    )


class _Draft:
    """A start whose ids and clear arguments are settled."""

    def __init__(
        self,
        namespace: str,
        converter: DataConverter,
        start: StartRun,
        workflow_type: str | None,
        task_queue: str,
    ) -> None:
        self.start = start
        self.id: UUID = new_id()
        self.namespace = namespace
        self.workflow_type = workflow_type or start.workflow_type
        self.workflow_id = start.workflow_id or f"{self.workflow_type}/{self.id}"
        self.task_queue = task_queue
        self.converter = converter.with_context(
            WorkflowSerializationContext(namespace=namespace, workflow_id=self.workflow_id)
        )
        self.arguments = self._converted(start.arguments)

    @property
    def memo(self) -> dict[str, Any]:
        carried = Carried(self.id, self.workflow_id, self.start.ref)
        return carried.to_memo() | ({"metadata": m} if (m := self.start.metadata) else {})

    def request(self, identity: str) -> StartWorkflowExecutionRequest:
        """The call without arguments and memo."""
        start = self.start
        reuse, conflict = _policies(start)
        request = StartWorkflowExecutionRequest(
            namespace=self.namespace,
            workflow_id=self.workflow_id,
            identity=identity,
            # The same in every try: Temporal answers a repeated one with the run it started.
            request_id=str(self.id),
            workflow_id_reuse_policy=reuse,
            workflow_id_conflict_policy=conflict,
            workflow_start_delay=_duration(start.start_delay),
            workflow_execution_timeout=_duration(start.execution_timeout),
            workflow_run_timeout=_duration(start.run_timeout),
        )
        for name, payload in trace_header().items():
            request.header.fields[name].CopyFrom(payload)
        request.workflow_type.name = self.workflow_type
        request.task_queue.name = self.task_queue
        if start.priority is not None:
            given = start.priority.model_dump(exclude_none=True)
            request.priority.CopyFrom(Priority(**given))
        return request

    def _converted(self, arguments: list[Any]) -> Sequence[Payload]:
        return converted(self.converter, arguments, field="input")


def _policies(
    start: StartRun,
) -> tuple[WorkflowIdReusePolicy.ValueType, WorkflowIdConflictPolicy.ValueType]:
    if start.workflow_id is None:
        # The id is made of the run's: whoever holds it is this run.
        return _REUSE["reject_duplicate"], _FAIL
    conflict = _TERMINATE if start.id_conflict_policy == "terminate_existing" else _FAIL
    return _REUSE[start.id_reuse_policy], conflict


_FAIL = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL
_TERMINATE = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
_REUSE = {
    "allow_duplicate": WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
    "allow_duplicate_failed_only": (
        WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
    ),
    "reject_duplicate": WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
}


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def _digest(start: StartRun, arguments: Sequence[Payload]) -> bytes:
    """SHA-256 of what the caller asked for. Of the arguments their encoded bytes before any codec,
    which may give other bytes each time; of the rest what differs from the defaults, so that a
    field which a later version adds changes no digest."""
    asked = start.model_dump(
        mode="json", exclude_defaults=True, exclude={"input", "args", "idempotency_key"}
    )
    digest = sha256(json.dumps(asked, sort_keys=True).encode())
    for payload in arguments:
        digest.update(sha256(payload.SerializeToString(deterministic=True)).digest())
    return digest.digest()
