"""Starting a workflow inside the caller's own transaction: it runs if, and only if, that commits.

    encoder = StartEncoder(client.namespace)            # tracker.temporal.start_encoder

    with Session(engine) as session, session.begin():
        session.add(order)
        run_id = start_in_transaction(
            session, encoder, "OrderFulfilment", {"order": order.id},
            ref_type="order", ref_id=order.id, task_queue="orders")

Only inserts are made, and no row that another start could collide with; the one exception is the
idempotency key: a second transaction with the same key waits for the end of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypedDict, Unpack, cast
from uuid import UUID

from pydantic import ValidationError

from tracker.errors import InvalidRequest
from tracker.models.wire import Priority, StartRun
from tracker.store.accept import Accepted, AcceptedStart, ExistingRun, accepting
from tracker.store.callers_connection import execute, execute_async
from tracker.store.database import DEFAULT_SCHEMA, DatabaseOptions

if TYPE_CHECKING:
    from tracker.store.callers_connection import CallersAsyncConnection, CallersConnection


class Unset(Enum):
    """Type of `UNSET`."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET
"""No argument at all, where None would be one."""

Duration = float | timedelta
"""Seconds, or a timedelta."""


class Encoder(Protocol):
    """Makes calls to Temporal out of requests (`tracker.temporal.start_encoder.StartEncoder`)."""

    def encode(self, start: StartRun) -> AcceptedStart:
        """Encode a start.

        Raises:
            ConfigurationError: Encoding needs the event loop (a payload codec is in use).
        """
        ...

    async def encode_async(self, start: StartRun) -> AcceptedStart:
        """Encode a start, through the payload codec if there is one."""
        ...


class StartOptions(TypedDict, total=False):
    """Keyword arguments of `start_in_transaction`; None counts as not given.

    Attributes:
        args: Several arguments, in order; instead of `input`.
        ref_type, ref_id: The business object: both or neither.
        metadata: JSON object that lists can be filtered by.
        idempotency_key: Starts with the same key give the same run.
        task_queue: Default: the encoder's.
        workflow_id: Default `{workflow_type}/{run id}`.
        start_delay, execution_timeout, run_timeout: Seconds or timedelta.
    """

    args: Sequence[Any] | None
    ref_type: str | None
    ref_id: str | None
    metadata: Mapping[str, Any] | None
    idempotency_key: str | None
    task_queue: str | None
    workflow_id: str | None
    id_reuse_policy: (
        Literal["allow_duplicate", "allow_duplicate_failed_only", "reject_duplicate"] | None
    )
    id_conflict_policy: Literal["fail", "use_existing", "terminate_existing"] | None
    start_delay: Duration | None
    execution_timeout: Duration | None
    run_timeout: Duration | None
    priority: Priority | None


def start_in_transaction(
    connection: CallersConnection,
    encoder: Encoder,
    workflow_type: str,
    input: Any = UNSET,
    *,
    schema: str = DEFAULT_SCHEMA,
    **options: Unpack[StartOptions],
) -> UUID:
    """Accept a start as part of the transaction that is open on a connection.

    Args:
        connection: psycopg `Connection`; SQLAlchemy `Connection` or `Session`, SQLModel's included.
        encoder: Knows the namespace and the data converter of those who run the workflow.
        workflow_type: Name of the type, as its workers registered it.
        input: The workflow's single argument, whatever the data converter takes.
        schema: Schema of the tracker's tables.
        options: See `StartOptions`.

    Returns:
        Our id of the run: known now, true once the transaction commits. With an idempotency key
        that is known already, the id of its run.

    Raises:
        InvalidRequest: The arguments contradict each other, or are not storable.
        IdempotencyConflict: The key was used before for another request.
        ConfigurationError: The data converter has a payload codec, which needs an event loop: use
            `start_in_transaction_async`, or `await encoder.encode_async(…)` and `insert_start`.
    """
    return insert_start(
        connection, encoder.encode(_request(workflow_type, input, options)), schema=schema
    )


async def start_in_transaction_async(
    connection: CallersAsyncConnection,
    encoder: Encoder,
    workflow_type: str,
    input: Any = UNSET,
    *,
    schema: str = DEFAULT_SCHEMA,
    **options: Unpack[StartOptions],
) -> UUID:
    """`start_in_transaction` on a psycopg `AsyncConnection`, SQLAlchemy `AsyncConnection` or
    `AsyncSession`; payload codecs work here."""
    start = await encoder.encode_async(_request(workflow_type, input, options))
    return _run_id(start, await execute_async(connection, _inserting(start, schema)))


def insert_start(
    connection: CallersConnection, start: AcceptedStart, *, schema: str = DEFAULT_SCHEMA
) -> UUID:
    """The second half of `start_in_transaction`, for a start that was encoded before."""
    return _run_id(start, execute(connection, _inserting(start, schema)))


def _request(workflow_type: str, input: Any, options: StartOptions) -> StartRun:
    fields = {name: value for name, value in options.items() if value is not None}
    for name in ("start_delay", "execution_timeout", "run_timeout"):
        value = fields.get(name)
        if isinstance(value, timedelta):
            fields[name] = value.total_seconds()
    if "args" in fields:
        fields["args"] = list(cast("Sequence[Any]", fields["args"]))
    if input is not UNSET:
        fields["input"] = input
    try:
        return StartRun(workflow_type=workflow_type, **cast("dict[str, Any]", fields))
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{field}: {message}" if field else message, field=field or None)


def _inserting(start: AcceptedStart, schema: str) -> Any:
    DatabaseOptions("", schema=schema)  # Checks that the name is one that SQL may contain.
    return accepting(schema, start, in_transaction=True)


def _run_id(start: AcceptedStart, outcome: Accepted | ExistingRun) -> UUID:
    # Drivers differ in how they give a UUID; ours is at hand.
    return start.id if isinstance(outcome, Accepted) else UUID(str(outcome.run_id))
