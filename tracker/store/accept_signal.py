"""Taking in a signal inside a caller's transaction: find whom it is for, then insert its entry.

What a reader gets wrong: nothing is decided here about whether the run is open. The tables can lag
behind Temporal, so only the relay, which asks Temporal, can tell.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, LiteralString, cast
from uuid import UUID

import orjson

from tracker.core.ids import Ref, workflow_lane
from tracker.errors import NotFound
from tracker.store.queries import load

Row = Mapping[str, Any]
Statement = tuple[LiteralString, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class OfRun:
    """A run on record, by our id or Temporal's."""

    run_id: UUID


@dataclass(frozen=True, slots=True)
class OfWorkflow:
    """The latest run of one workflow type for one ref."""

    workflow_type: str
    ref: Ref


@dataclass(frozen=True, slots=True)
class OfWorkflowId:
    """Whoever has the workflow id when Temporal is asked; nobody need have recorded it."""

    workflow_id: str


Address = OfRun | OfWorkflow | OfWorkflowId


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a signal is for.

    Attributes:
        run_id: Our id of the run; of a workflow id its lane (`core.ids.workflow_lane`). Signals
            with the same one are sent one after another.
    """

    run_id: UUID
    workflow_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedSignal:
    """A signal, ready to be stored; `tracker.temporal.signal_encoder` makes it.

    Attributes:
        id: Id of the outbox entry, and the request id of every call to Temporal.
        run_id: See `Addressee`.
        request: The complete, encoded `SignalWorkflowExecutionRequest`, but for Temporal's run id.
    """

    id: UUID
    namespace: str
    run_id: UUID
    request: bytes


def finding(
    schema: str, namespace: str, address: Address
) -> Generator[Statement, Row | None, Addressee]:
    """The statement that finds an addressee, for whatever executes it.

    Raises:
        NotFound: Nothing on record fits.
    """
    name, parameters = _lookup(address)
    row = yield _statement(schema, name), {"namespace": namespace} | parameters
    if row is not None:
        # Drivers differ in how they give a UUID.
        return Addressee(UUID(str(row["id"])), row["workflow_id"])
    if isinstance(address, OfWorkflowId):
        return Addressee(workflow_lane(namespace, address.workflow_id), address.workflow_id)
    raise _nobody(namespace, address)


def inserting(schema: str, signal: AcceptedSignal) -> Generator[Statement, Row | None, UUID]:
    """The statement that stores a signal; returns its id."""
    document = {
        "id": signal.id,
        "namespace": signal.namespace,
        "run_id": signal.run_id,
        "request": b64encode(signal.request).decode(),
    }
    yield _statement(schema, "insert_signal"), {"signal": orjson.dumps(document).decode()}
    return signal.id


@cache
def _statement(schema: str, name: str) -> LiteralString:
    return cast("LiteralString", load("signals")[name].replace("{schema}", f'"{schema}"'))


def _lookup(address: Address) -> tuple[str, dict[str, Any]]:
    match address:
        case OfRun(run_id):
            return "by_run", {"run_id": str(run_id)}
        case OfWorkflow(workflow_type, ref):
            named = {"ref_type": ref.ref_type, "ref_id": ref.ref_id}
            return "by_ref", {"workflow_type": workflow_type} | named
        case OfWorkflowId(workflow_id):
            return "by_workflow_id", {"workflow_id": workflow_id}


def _nobody(namespace: str, address: OfRun | OfWorkflow) -> NotFound:
    if isinstance(address, OfRun):
        return NotFound(
            f"there is no run {address.run_id} in namespace {namespace!r}; to signal a run that is "
            "not on record, give workflow_id",
            run_id=str(address.run_id),
        )
    return NotFound(
        f"there is no run of {address.workflow_type} for {address.ref} in namespace {namespace!r}; "
        "start it first, or give run_id or workflow_id",
        workflow_type=address.workflow_type,
        ref=str(address.ref),
    )
