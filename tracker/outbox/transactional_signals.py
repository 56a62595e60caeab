"""Signaling a workflow inside the caller's own transaction: sent if, and only if, that commits.

    signal_in_transaction(session, encoder, "approve", {"by": "ada"}, run_id=run_id)

Only inserts are made, of one row that nothing else could collide with; before that, one look at the
run. What a reader gets wrong: "accepted" is no promise that the run still listens. A signal that
Temporal refuses for good stays in the outbox as a dead entry, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from tracker.core.ids import Ref
from tracker.errors import InvalidRequest
from tracker.models.wire import parse_ref
from tracker.store.accept_signal import (
    AcceptedSignal,
    Address,
    Addressee,
    OfRun,
    OfWorkflow,
    OfWorkflowId,
    finding,
    inserting,
)
from tracker.store.callers_connection import execute, execute_async
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions

if TYPE_CHECKING:
    from tracker.store.callers_connection import CallersAsyncConnection, CallersConnection

NAME_MAX = 1000
"""Bytes of a signal's name, of a workflow type and of a workflow id that Temporal takes by default.
"""


class SignalEncoder(Protocol):
    """Makes calls to Temporal out of signals (`tracker.temporal.start_encoder.StartEncoder`)."""

    namespace: str

    def encode_signal(self, name: str, args: Sequence[Any], addressee: Addressee) -> AcceptedSignal:
        """Encode a signal.

        Raises:
            ConfigurationError: Encoding needs the event loop (a payload codec is in use).
        """
        ...

    async def encode_signal_async(
        self, name: str, args: Sequence[Any], addressee: Addressee
    ) -> AcceptedSignal:
        """Encode a signal, through the payload codec if there is one."""
        ...


def signal_in_transaction(
    connection: CallersConnection,
    encoder: SignalEncoder,
    signal_name: str,
    *args: Any,
    run_id: UUID | str | None = None,
    ref: Ref | str | tuple[str, str] | None = None,
    workflow_type: str | None = None,
    workflow_id: str | None = None,
    schema: str = DEFAULT_SCHEMA,
) -> UUID:
    """Accept a signal as part of the transaction that is open on a connection.

    Exactly one of `run_id`, `ref` with `workflow_type`, and `workflow_id` says whom it is for.

    Args:
        connection: psycopg `Connection`; SQLAlchemy `Connection` or `Session`, SQLModel's included.
        encoder: Knows the namespace and the data converter of those who run the workflow.
        signal_name: At most 1,000 bytes.
        args: Its arguments, whatever the data converter takes; 2 MiB at most when encoded.
        run_id: A run on record, by our id or Temporal's; it may have been accepted in this very
            transaction. The signal reaches the current run of its chain.
        ref: `"ref_type/ref_id"`, `Ref` or a pair: the latest run on record of the workflow.
        workflow_type: Name of the type, as its workers registered it.
        workflow_id: Whatever run has this workflow id when the signal is sent, on record or not.
        schema: Schema of the tracker's tables.

    Returns:
        Id of the outbox entry, and Temporal's request id of the signal.

    Raises:
        InvalidRequest: The arguments contradict each other, or Temporal would refuse them.
        PayloadTooLarge: The arguments are larger than Temporal takes.
        NotFound: No run on record fits.
        ConfigurationError: The data converter has a payload codec, which needs an event loop: use
            `signal_in_transaction_async`.
    """
    address = _address(run_id, ref, workflow_type, workflow_id)
    _check_name("signal_name", signal_name)
    DatabaseOptions("", schema=schema)  # Checks that the name is one that SQL may contain.
    addressee = execute(connection, finding(schema, encoder.namespace, address))
    signal = encoder.encode_signal(signal_name, args, addressee)
    return execute(connection, inserting(schema, signal))


async def signal_in_transaction_async(
    connection: CallersAsyncConnection,
    encoder: SignalEncoder,
    signal_name: str,
    *args: Any,
    run_id: UUID | str | None = None,
    ref: Ref | str | tuple[str, str] | None = None,
    workflow_type: str | None = None,
    workflow_id: str | None = None,
    schema: str = DEFAULT_SCHEMA,
) -> UUID:
    """`signal_in_transaction` on a psycopg `AsyncConnection`, SQLAlchemy `AsyncConnection` or
    `AsyncSession`; payload codecs work here."""
    address = _address(run_id, ref, workflow_type, workflow_id)
    _check_name("signal_name", signal_name)
    DatabaseOptions("", schema=schema)
    addressee = await execute_async(connection, finding(schema, encoder.namespace, address))
    signal = await encoder.encode_signal_async(signal_name, args, addressee)
    return await execute_async(connection, inserting(schema, signal))


def _address(
    run_id: UUID | str | None,
    ref: Ref | str | tuple[str, str] | None,
    workflow_type: str | None,
    workflow_id: str | None,
) -> Address:
    given = [value for value in (run_id, ref, workflow_id) if value is not None]
    if len(given) != 1 or (ref is None) != (workflow_type is None):
        raise InvalidRequest(
            "say whom the signal is for in one way: run_id, or ref together with workflow_type, or "
            "workflow_id"
        )
    if run_id is not None:
        return OfRun(_uuid(run_id))
    if ref is not None and workflow_type is not None:
        return OfWorkflow(_check_name("workflow_type", workflow_type), parse_ref(ref))
    return OfWorkflowId(_check_name("workflow_id", workflow_id))


def _uuid(run_id: UUID | str) -> UUID:
    try:
        return UUID(str(run_id))
    except ValueError:
        raise InvalidRequest(
            f"expected run_id to be a UUID, got {run_id!r}", field="run_id"
        ) from None


def _check_name(field: str, text: object) -> str:
    """Refuse what Temporal would refuse later, and what would break the caller's transaction."""
    if isinstance(text, str) and "\x00" not in text and 1 <= _bytes(text) <= NAME_MAX:
        return text
    raise InvalidRequest(
        f"expected {field} to be text of 1-{NAME_MAX} bytes in UTF-8, without zero characters; got "
        f"{str(text)[:80]!r}",
        field=field,
    )


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # A lone surrogate.
        return 0
