"""Acting on runs by our id, on a real Temporal: what reaches them, what is refused, and the trace
that it leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.proxy import TcpProxy
from tests.starts import QUEUE, accepted, encoded, request, run_row
from tests.waiting import eventually
from tracker.core.events import RunClosed
from tracker.core.fold import fold
from tracker.core.status import RunStatus
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.errors import Conflict, NotFound, TemporalUnavailable, TransientError
from tracker.models.wire import RunRead
from tracker.store.audit import actions_of_run
from tracker.store.database import Database
from tracker.store.record import write_batch
from tracker.temporal.control import RunControl
from tracker.temporal.executions import describe
from tracker.temporal.reach import Reach
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartService
from tracker.temporal.starter import TemporalStarter


@workflow.defn
class Counter:
    """Counts what it is told until it is canceled."""

    def __init__(self) -> None:
        self.total = 0

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.total >= 100)
        return self.total

    @workflow.signal
    def add(self, amount: int) -> None:
        self.total += amount

    @workflow.query
    def now(self) -> dict[str, int]:
        return {"total": self.total}

    @workflow.query
    def broken(self) -> None:
        raise ValueError("not today")

    @workflow.update
    async def add_and_tell(self, amount: int) -> int:
        self.total += amount
        return self.total

    @add_and_tell.validator
    def _positive(self, amount: int) -> None:
        if amount < 0:
            raise ApplicationError("expected a positive amount", type="Negative")

    @workflow.update
    async def never(self) -> None:
        await workflow.wait_condition(lambda: self.total >= 50)


@pytest.fixture
def control(store: Database, temporal_client: Client) -> RunControl:
    return RunControl(Reach(store, temporal_client))


@pytest.fixture
async def run(store: Database, temporal_client: Client) -> RunRead:
    """A running `Counter`; its worker is another fixture."""
    encoder = StartEncoder(temporal_client.namespace)
    service = StartService(store, encoder, TemporalStarter(temporal_client))
    fields = request(workflow_type="Counter").model_dump(exclude={"input"}, exclude_unset=True)
    return (await service.start(request().model_validate(fields))).run


@pytest.fixture
async def worker(temporal_client: Client) -> AsyncIterator[None]:
    async with Worker(
        temporal_client,
        task_queue=QUEUE,
        workflows=[Counter],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        yield


async def trace(store: Database, run_id: UUID) -> list[tuple[Any, ...]]:
    names = ("actor", "action", "outcome", "reason")
    return [tuple(entry[name] for name in names) for entry in await actions_of_run(store, run_id)]


async def status(client: Client, run: RunRead) -> WorkflowExecutionStatus | None:
    handle = client.get_workflow_handle(run.workflow_id, run_id=str(run.temporal_run_id))
    return (await handle.describe()).status


@pytest.mark.usefixtures("worker")
async def test_cancel(
    control: RunControl, store: Database, temporal_client: Client, run: RunRead
) -> None:
    answer = await control.cancel(run.run_id, actor="ann", reason="wrong order")

    assert (answer.run_id, answer.action, answer.canceled_before_start) == (
        run.run_id,
        "cancel",
        False,
    )

    async def canceled() -> bool:
        return await status(temporal_client, run) is WorkflowExecutionStatus.CANCELED

    await eventually(canceled)
    assert await trace(store, run.run_id) == [("ann", "cancel", "done", "wrong order")]


async def test_terminate_by_temporals_id(
    control: RunControl, store: Database, temporal_client: Client, run: RunRead
) -> None:
    assert run.temporal_run_id is not None
    await control.terminate(run.temporal_run_id, actor="ann", reason="stuck")
    assert await status(temporal_client, run) is WorkflowExecutionStatus.TERMINATED
    assert await trace(store, run.run_id) == [("ann", "terminate", "done", "stuck")]


@pytest.mark.usefixtures("worker")
async def test_signal_query_and_update(control: RunControl, store: Database, run: RunRead) -> None:
    await control.signal(run.run_id, "add", [2], actor="ann")
    asked = await control.query(run.run_id, "now")
    assert asked.result == {"total": 2}
    updated = await control.update(run.run_id, "add_and_tell", [3], actor="bob", reason="r")
    assert (updated.done, updated.result) == (True, 5)
    assert updated.update_id
    assert await trace(store, run.run_id) == [
        ("ann", "signal", "done", None),
        ("bob", "update", "done", "r"),
    ]


@pytest.mark.usefixtures("worker")
async def test_an_update_that_takes_longer_is_asked_for_again(
    control: RunControl, run: RunRead
) -> None:
    first = await control.update(run.run_id, "never", actor="a", update_id="u", wait=0.3)
    assert (first.done, first.update_id) == (False, "u")

    await control.signal(run.run_id, "add", [50], actor="a")
    again = await control.update(run.run_id, "never", actor="a", update_id="u", wait=10)
    assert again.done


@pytest.mark.usefixtures("worker")
async def test_what_the_workflow_refuses(
    control: RunControl, store: Database, run: RunRead
) -> None:
    with pytest.raises(Conflict, match="Negative: expected a positive amount"):
        await control.update(run.run_id, "add_and_tell", [-1], actor="ann")
    with pytest.raises(Conflict, match="not today"):
        await control.query(run.run_id, "broken")
    with pytest.raises(Conflict, match="no_such_query"):
        await control.query(run.run_id, "no_such_query")
    assert await trace(store, run.run_id) == [("ann", "update", "conflict", None)]


async def test_a_query_without_a_worker(
    store: Database, temporal_client: Client, run: RunRead
) -> None:
    control = RunControl(Reach(store, temporal_client, seconds=0.5))
    with pytest.raises(TransientError, match="worker"):
        await control.query(run.run_id, "now")


async def test_a_run_that_has_ended(
    control: RunControl, store: Database, temporal_client: Client, run: RunRead
) -> None:
    await control.terminate(run.run_id, actor="ann")
    # The tables do not know it yet: Temporal is asked, and says so.
    for act in (control.cancel, control.terminate):
        with pytest.raises(Conflict, match="has ended"):
            await act(run.run_id, actor="ann")
    with pytest.raises(Conflict, match="has ended"):
        await control.signal(run.run_id, "add", [1], actor="ann")
    assert [entry[2] for entry in await trace(store, run.run_id)] == ["done"] + ["conflict"] * 3


async def test_what_history_closed_is_refused_without_temporal(
    store: Database, temporal_client: Client, run: RunRead, proxy_client: Client
) -> None:
    await closed_in_the_tables(store, temporal_client, run, from_history=True)
    with pytest.raises(Conflict, match="completed"):
        await RunControl(Reach(store, proxy_client)).cancel(run.run_id, actor="ann")


async def test_a_workers_claim_does_not_close_the_door(
    control: RunControl, store: Database, temporal_client: Client, run: RunRead
) -> None:
    await closed_in_the_tables(store, temporal_client, run, from_history=False)
    await control.terminate(run.run_id, actor="ann")
    assert await status(temporal_client, run) is WorkflowExecutionStatus.TERMINATED


async def closed_in_the_tables(
    store: Database, client: Client, run: RunRead, *, from_history: bool
) -> None:
    execution = await describe(client, run.workflow_id, seconds=5)
    assert execution is not None
    closed = RunClosed(
        run=execution.identity,
        history_length=5,
        status=RunStatus.COMPLETED,
        finished_at=datetime.now(UTC),
        from_history=from_history,
    )
    async with store.connection() as connection:
        await write_batch(connection, "flowtrail", fold([closed]))


async def test_cancel_before_the_start(
    control: RunControl, store: Database, namespace: str
) -> None:
    start = encoded(namespace)
    await accepted(store, start)

    answer = await control.cancel(start.id, actor="ann")
    assert answer.canceled_before_start
    assert (await run_row(store, start.id))["status"] == "canceled"
    with pytest.raises(Conflict, match="canceled"):
        await control.terminate(start.id, actor="ann")


async def test_a_run_that_has_not_started_takes_no_signals(
    control: RunControl, store: Database, namespace: str
) -> None:
    start = encoded(namespace)
    await accepted(store, start)
    with pytest.raises(TransientError, match="not yet started"):
        await control.signal(start.id, "add", [1], actor="ann")


async def test_an_unknown_run(control: RunControl) -> None:
    with pytest.raises(NotFound):
        await control.cancel(uuid4(), actor="ann")


@pytest.fixture
async def proxy_client(temporal_server: EmbeddedTemporal, namespace: str) -> AsyncIterator[Client]:
    """A client whose Temporal does not answer."""
    async with TcpProxy(temporal_server.port) as proxy:
        proxy.hang()
        yield await Client.connect(proxy.address, namespace=namespace, lazy=True)


async def test_temporal_away(store: Database, run: RunRead, proxy_client: Client) -> None:
    control = RunControl(Reach(store, proxy_client, seconds=0.3))
    with pytest.raises(TemporalUnavailable):
        await control.cancel(run.run_id, actor="ann")
    assert await trace(store, run.run_id) == [("ann", "cancel", "temporal_unavailable", None)]
