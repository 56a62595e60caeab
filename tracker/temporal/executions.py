"""What Temporal knows of a run, read as raw protobuf: the SDK's own classes raise on statuses that
are newer than they are."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from temporalio.api.common.v1 import Memo, WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError

from tracker.core.events import RunIdentity
from tracker.core.memo import MEMO_FIELD, Carried, read_memo
from tracker.temporal.history.reading import moment, run_key_of
from tracker.temporal.rpc import is_unknown_run

logger = logging.getLogger(__name__)

PAGE_SIZE = 200

_PAUSED = 8
"""WORKFLOW_EXECUTION_STATUS_PAUSED, open as well."""
_OPEN = frozenset({WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING, _PAUSED})


@dataclass(frozen=True, slots=True)
class Execution:
    """One of Temporal's runs.

    Attributes:
        carried: What its memo says.
    """

    namespace: str
    info: WorkflowExecutionInfo
    carried: Carried

    @property
    def run_key(self) -> UUID:
        """Temporal's run id."""
        return UUID(self.info.execution.run_id)

    @property
    def first_run_key(self) -> UUID:
        """Run id of the first run of its chain."""
        return run_key_of(self.info.first_run_id) or self.run_key

    @property
    def is_open(self) -> bool:
        """Whether it runs, paused or not."""
        return is_open(self.info)

    def carries(self, run_id: UUID) -> bool:
        """Whether it, or an earlier run of its chain, is the one that we accepted under this id."""
        workflow_id = self.info.execution.workflow_id
        return self.carried.id == run_id and self.carried.workflow_id == workflow_id

    @property
    def identity(self) -> RunIdentity:
        """The run as tracker events name it."""
        info, first = self.info, self.first_run_key
        workflow_id = info.execution.workflow_id
        return RunIdentity(
            id=self.carried.run_id(self.namespace, workflow_id, self.run_key, first),
            namespace=self.namespace,
            run_key=self.run_key,
            workflow_type=info.type.name,
            workflow_id=workflow_id,
            task_queue=info.task_queue,
            first_run_key=first,
            started_at=moment(info.start_time),
            ref=self.carried.ref,
        )


def is_open(info: WorkflowExecutionInfo) -> bool:
    """Whether a run is open, paused or not."""
    return info.status in _OPEN


async def describe(
    client: Client, workflow_id: str, run_id: str = "", *, seconds: float
) -> Execution | None:
    """A run by its workflow id; the latest one unless a run id is given.

    Returns:
        None if Temporal does not know it (any more).

    Raises:
        RPCError: Any other answer.
    """
    answer = await describe_fully(client, workflow_id, run_id, seconds=seconds)
    return None if answer is None else await _execution(client, answer.workflow_execution_info)


async def describe_fully(
    client: Client, workflow_id: str, run_id: str = "", *, seconds: float
) -> DescribeWorkflowExecutionResponse | None:
    """As `describe`, with everything that Temporal says, such as what is pending."""
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
    )
    try:
        return await client.workflow_service.describe_workflow_execution(
            request, retry=False, timeout=timedelta(seconds=seconds)
        )
    except RPCError as error:
        if is_unknown_run(error):
            return None
        raise


async def list_executions(
    client: Client,
    query: str,
    *,
    seconds: float,
    page_size: int = PAGE_SIZE,
    patiently: bool = False,
) -> AsyncIterator[WorkflowExecutionInfo]:
    """Runs that a visibility query finds, which lags behind by milliseconds to seconds.

    Args:
        patiently: Whether a page is asked for again, within `seconds`, where Temporal is away.

    Raises:
        RPCError: As Temporal answers.
    """
    token = b""
    while True:
        request = ListWorkflowExecutionsRequest(
            namespace=client.namespace, page_size=page_size, query=query, next_page_token=token
        )
        answer = await client.workflow_service.list_workflow_executions(
            request, retry=patiently, timeout=timedelta(seconds=seconds)
        )
        for info in answer.executions:
            yield info
        token = answer.next_page_token
        if not token:
            return


async def find_carrier(
    client: Client, workflow_id: str, run_id: UUID, *, since: datetime, seconds: float
) -> Execution | None:
    """The run, or a later one of its chain, that we accepted under `run_id`, be it the latest of
    its workflow id or not.

    Args:
        since: Temporal cannot have started it before.

    Raises:
        RPCError: As Temporal answers.
    """
    latest = await describe(client, workflow_id, seconds=seconds)
    if latest is None or latest.carries(run_id):
        return latest
    earliest = (since - _CLOCKS_APART).isoformat()
    query = f"WorkflowId = {quoted(workflow_id)} AND StartTime >= '{earliest}'"
    async for info in list_executions(client, query, seconds=seconds):
        if (await _execution(client, info)).carries(run_id):
            # Visibility does not tell the first run of a chain.
            return await describe(client, workflow_id, info.execution.run_id, seconds=seconds)
    return None


_CLOCKS_APART = timedelta(minutes=1)


def quoted(value: str) -> str:
    """A string literal of Temporal's query language."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


async def read_carried(converter: DataConverter, memo: Memo) -> Carried:
    """What a memo carries; nothing where it cannot be read, for it may be anybody's."""
    payload = memo.fields.get(MEMO_FIELD)
    if payload is None:
        return Carried()
    try:
        [value] = await converter.decode([payload])
    except Exception:  # A foreign codec or converter.
        logger.debug("memo not readable", exc_info=True, extra={"event": "memo.unreadable"})
        return Carried()
    return read_memo(value)


async def _execution(client: Client, info: WorkflowExecutionInfo) -> Execution:
    context = WorkflowSerializationContext(
        namespace=client.namespace, workflow_id=info.execution.workflow_id
    )
    carried = await read_carried(client.data_converter.with_context(context), info.memo)
    return Execution(client.namespace, info, carried)
