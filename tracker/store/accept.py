"""Taking in a start: run, outbox entry, input, ref and labels in one statement, or none of them.

The same statement serves the facade (which calls Temporal right after and therefore leases the
entry to itself) and `start_in_transaction` (which writes into somebody's open transaction and
therefore only inserts). What a reader gets wrong: a statement that lost the race for an idempotency
key cannot see the winner's row; it takes a second one to read it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal, LiteralString, cast
from uuid import UUID

import orjson

from tracker.core.columns import REF_FROM_MEMO
from tracker.core.ids import Ref, payload_id
from tracker.core.payloads import StoredPayload
from tracker.core.status import Engine, RunRank, RunStatus, run_version
from tracker.errors import DatabaseUnavailable, IdempotencyConflict
from tracker.store.batch_document import payload_row
from tracker.store.database import AsyncConnection
from tracker.store.queries import load
from tracker.store.record import LABEL_MAX
from tracker.store.run_rows import RUN_COLUMNS

API_LEASE = 10.0
"""Seconds for which an accepted start belongs to the API that accepted it."""

FROM_HISTORY = 1
"""`run.input_version` of an input as history has it."""

OnConflict = Literal["reject", "existing"]
"""What a workflow id that another run holds means: refusal, or that run instead."""

Row = Mapping[str, Any]
Statement = tuple[LiteralString, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedStart:
    """A start, ready to be stored; `tracker.temporal.start_encoder` makes it.

    Attributes:
        id: Our public id of the run, and the request id of every call to Temporal.
        request: The complete, encoded `StartWorkflowExecutionRequest`.
        input: The arguments in the form in which they are kept, if they are.
        metadata: JSON text of an object, if metadata may be kept.
        digest: SHA-256 of what the caller asked for; tells a repeated request from another one
            under the same idempotency key.
        rerun_of: Our id of the run that it repeats.
    """

    id: UUID
    namespace: str
    workflow_type: str
    workflow_id: str
    task_queue: str
    request: bytes
    digest: bytes
    on_conflict: OnConflict = "reject"
    ref: Ref | None = None
    metadata: bytes | None = None
    input: StoredPayload | None = None
    idempotency_key: str | None = None
    rerun_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The start is stored; `run` is its row, in as far as `run_read` needs it."""

    run: Row


@dataclass(frozen=True, slots=True)
class ExistingRun:
    """The idempotency key belongs to this run, by the same request."""

    run_id: UUID


async def accept(
    connection: AsyncConnection, schema: str, start: AcceptedStart, *, lease: float = API_LEASE
) -> Accepted | ExistingRun:
    """Store a start, once for each idempotency key.

    Args:
        connection: In autocommit mode.
        schema: The tracker's schema, a checked identifier.
        lease: Seconds during which no relay takes the start, because the caller itself calls
            Temporal; 0 leaves it to the relays.

    Raises:
        IdempotencyConflict: The key was used before with another request.
    """
    steps = accepting(schema, start, lease=lease)
    sql, parameters = next(steps)
    try:
        while True:
            cursor = await connection.execute(sql, parameters, prepare=True)
            sql, parameters = steps.send(await cursor.fetchone())
    except StopIteration as done:
        return done.value


async def find_key(
    connection: AsyncConnection, schema: str, namespace: str, key: str, digest: bytes
) -> ExistingRun | None:
    """The run that an idempotency key belongs to; None if it is free.

    Args:
        digest: `AcceptedStart.digest` of the request that has the key now.

    Raises:
        IdempotencyConflict: The key was used before with another request.
    """
    parameters = {"namespace": namespace, "key": key}
    cursor = await connection.execute(_statement(schema, "known_key"), parameters, prepare=True)
    known = await cursor.fetchone()
    return None if known is None else _existing(key, digest, known)


def accepting(
    schema: str, start: AcceptedStart, *, lease: float = 0.0, in_transaction: bool = False
) -> Generator[Statement, Row | None, Accepted | ExistingRun]:
    """The statements of `accept`, for whatever executes them, synchronously or not.

    Yields statements with parameters, wants back the first row of each, and returns the outcome.

    Args:
        in_transaction: Insert only what no other start can collide with.
    """
    parameters = {"start": _document(start, lease, in_transaction)}
    for _ in range(_TRIES_FOR_KEY):
        run = yield _statement(schema, "accept"), parameters
        if run is not None:
            return Accepted(run)
        key = {"namespace": start.namespace, "key": start.idempotency_key}
        known = yield _statement(schema, "known_key"), key
        if known is not None:
            return _existing(start.idempotency_key, start.digest, known)
    raise DatabaseUnavailable(
        f"the idempotency key {start.idempotency_key!r} keeps changing hands; try again"
    )


# A key can vanish between the two statements only where somebody deletes keys.
_TRIES_FOR_KEY = 3


@cache
def _statement(schema: str, name: str) -> LiteralString:
    sql = load("starts")[name].replace("{schema}", schema)
    sql = sql.replace("{run_columns}", ", ".join(RUN_COLUMNS))
    return cast("LiteralString", sql.replace("{label_max}", str(LABEL_MAX)))


def _existing(key: str | None, digest: bytes, known: Row) -> ExistingRun:
    if bytes(known["digest"]) != digest:
        raise IdempotencyConflict(
            f"the idempotency key {key!r} was used for another request; repeat that request as it "
            "was, or use a new key",
            idempotency_key=key,
            run_id=str(known["run_id"]),
        )
    return ExistingRun(known["run_id"])


def _document(start: AcceptedStart, lease: float, in_transaction: bool) -> str:
    input_id = _input_id(start)
    document = {
        "id": start.id,
        "namespace": start.namespace,
        "engine": Engine.TEMPORAL,
        "workflow_type": start.workflow_type,
        "workflow_id": start.workflow_id,
        "task_queue": start.task_queue,
        "status": RunStatus.ACCEPTED,
        "status_version": run_version(RunRank.ACCEPTED, 0),
        "request": b64encode(start.request).decode(),
        "on_conflict": start.on_conflict,
        "idempotency_key": start.idempotency_key,
        "digest": start.digest.hex(),
        "rerun_of": start.rerun_of,
        "lease": lease,
        "in_transaction": in_transaction,
        "input_id": input_id,
        # The bytes that Temporal is given are those that history will have.
        "input_version": 1 if input_id is not None else None,
        "input": None
        if start.input is None or input_id is None
        else payload_row(input_id, start.input),
    }
    if start.ref is not None:
        document |= {"ref_type": start.ref.ref_type, "ref_id": start.ref.ref_id}
        document["ref_version"] = REF_FROM_MEMO
    if start.metadata is not None:
        document |= {"metadata": orjson.Fragment(start.metadata), "metadata_version": 0}
    return orjson.dumps(document).decode()


def _input_id(start: AcceptedStart) -> UUID | None:
    if start.input is None:
        return None
    accepted_at = _EPOCH + timedelta(milliseconds=start.id.int >> 80)
    return payload_id(start.id, "input", start.input.digest, accepted_at)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
