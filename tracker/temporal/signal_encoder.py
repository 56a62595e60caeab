"""Makes the complete call to Temporal out of a signal: what the outbox keeps.

Temporal's limit of size is checked here, while the caller can still do something about it; at
delivery it could only end in a dead entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.converter import DataConverter, WorkflowSerializationContext

from tracker.core.ids import new_id
from tracker.errors import InvalidRequest, PayloadTooLarge
from tracker.store.accept_signal import AcceptedSignal, Addressee

ARGUMENTS_MAX = 2 * 1024 * 1024
"""Bytes of a signal's encoded arguments, all together, that Temporal takes by default."""


class SignalDraft:
    """A signal whose id and clear arguments are settled.

    Raises:
        InvalidRequest: Arguments that the data converter refuses.
    """

    def __init__(
        self,
        namespace: str,
        converter: DataConverter,
        name: str,
        args: Sequence[Any],
        addressee: Addressee,
    ) -> None:
        self.id: UUID = new_id()
        self._namespace = namespace
        self._name = name
        self._addressee = addressee
        self.converter = converter.with_context(
            WorkflowSerializationContext(namespace=namespace, workflow_id=addressee.workflow_id)
        )
        self.arguments = converted(self.converter, args, field="args")

    def accepted(self, arguments: Sequence[Payload], identity: str) -> AcceptedSignal:
        """The signal with its arguments as they are sent.

        Raises:
            PayloadTooLarge: They are larger than Temporal takes.
        """
        request = SignalWorkflowExecutionRequest(
            namespace=self._namespace,
            workflow_execution=WorkflowExecution(workflow_id=self._addressee.workflow_id),
            signal_name=self._name,
            identity=identity,
            # The same in every try: a run takes a repeated one without a second event.
            request_id=str(self.id),
        )
        request.input.payloads.extend(arguments)
        size = request.input.ByteSize()
        if size > ARGUMENTS_MAX:
            raise PayloadTooLarge(
                f"the arguments of signal {self._name!r} take {size} bytes, Temporal takes "
                f"{ARGUMENTS_MAX}; keep large values elsewhere and send a reference",
                size=size,
                limit=ARGUMENTS_MAX,
            )
        if not arguments:
            request.ClearField("input")
        return AcceptedSignal(
            id=self.id,
            namespace=self._namespace,
            run_id=self._addressee.run_id,
            request=request.SerializeToString(deterministic=True),
        )


def converted(converter: DataConverter, arguments: Sequence[Any], *, field: str) -> list[Payload]:
    """Arguments as payloads, before any codec.

    Args:
        field: What the caller calls them, for the error.

    Raises:
        InvalidRequest: The data converter refuses them.
    """
    if not arguments:
        return []
    try:
        return converter.payload_converter.to_payloads(arguments)
    except Exception as error:  # A user's converter may raise whatever it likes.
        raise InvalidRequest(
            f"the data converter refuses the arguments: {error}", field=field
        ) from error
