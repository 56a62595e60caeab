"""Holds the tables against Temporal, both ways: do the rows of each run say what its history says,
and is every run that Temporal has on record?

A live system is never still: workers may be ahead of what was read, the reconciler seconds behind.
So a difference counts only if it is still there after a while. What history does not know is not
compared (`core.comparison`); whose history is gone cannot be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from tracker.core.batch import Batch
from tracker.core.comparison import Difference, compare
from tracker.core.events import TrackerEvent
from tracker.core.fold import fold
from tracker.core.ids import Ref
from tracker.core.payloads import PayloadPolicy
from tracker.core.status import RunStatus
from tracker.store import recorded_runs
from tracker.store.corrections import correct
from tracker.store.database import Database
from tracker.store.reconcile import known_runs
from tracker.store.recorded_runs import RunChoice, RunHead
from tracker.temporal.executions import list_executions, quoted
from tracker.temporal.history import RefRules
from tracker.temporal.history.reading import moment
from tracker.temporal.history_reader import ReadHistory
from tracker.temporal.projector import Projector, under_id
from tracker.temporal.rpc import bounded_call, translate
from tracker.temporal.scope import Selection

CONCURRENCY = 8
"""Histories fetched at once."""
HISTORY_EVENTS = 20_000
"""Of about so many history events are runs compared together, which bounds memory."""
KEPT = 10_000
"""Runs with differences that a report holds; further ones are only counted."""
LIST_SECONDS = 30.0
SETTLING = (1.0, 2.0, 3.0, 4.0)
"""Seconds before each further look at what seemed to differ."""


@dataclass(frozen=True, slots=True)
class RunDifferences:
    """A run on which the tables and Temporal disagree.

    Attributes:
        run_id: Ours; None where the tables lack the run.
        repaired: Its rows have been corrected since.
    """

    run_id: UUID | None
    temporal_run_id: UUID
    workflow_type: str
    workflow_id: str
    ref: Ref | None
    differences: tuple[Difference, ...]
    repaired: bool = False


@dataclass(slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        runs: Runs whose rows were compared with their history.
        history_events: Read for that.
        executions: Of Temporal's runs, looked up in the tables.
        gone: Closed runs that history had confirmed before it was deleted; not compared.
        unverifiable: Closed runs that history never confirmed and never can any more.
        unrecorded_before: Runs from before the first one on record, for `backfill`; no difference.
        different: Runs with differences.
        repaired: Of those, how many have been corrected.
        found: The first of them, with their differences.
    """

    runs: int = 0
    history_events: int = 0
    executions: int = 0
    gone: int = 0
    unverifiable: int = 0
    unrecorded_before: int = 0
    different: int = 0
    repaired: int = 0
    found: list[RunDifferences] = field(default_factory=list[RunDifferences])

    @property
    def differences(self) -> int:
        """Differing fields and missing rows, of the runs in `found`."""
        return sum(len(run.differences) for run in self.found)

    @property
    def is_true(self) -> bool:
        """Whether nothing differs, or nothing any more."""
        return self.different == self.repaired

    def add(self, run: RunDifferences) -> None:
        """Take in a run that differs."""
        self.different += 1
        self.repaired += run.repaired
        if len(self.found) < KEPT:
            self.found.append(run)


@dataclass(slots=True)
class _Suspect:
    """A run that seemed to differ; `head` is None if the tables lacked it."""

    run_key: UUID
    workflow_id: str
    workflow_type: str
    head: RunHead | None
    differences: tuple[Difference, ...]

    def told(self, *, repaired: bool) -> RunDifferences:
        """As the report has it."""
        return RunDifferences(
            run_id=self.head and self.head.id,
            temporal_run_id=self.run_key,
            workflow_type=self.workflow_type,
            workflow_id=self.workflow_id,
            ref=self.head and self.head.ref,
            differences=self.differences,
            repaired=repaired,
        )


class Verification:
    """One comparison of a client's namespace; make it, `run` it, read the report.

    Args:
        policy: What was kept of inputs and outputs, as the namespace's workers have it.
        ref_rules: From which refs were derived.
        choice: Which runs; its `since` is moved up to what the namespace's retention leaves.
        selection: Which workflow types are tracked; others are not missed.
        repair: Correct what differs.
        settling: Seconds before each further look at what seemed to differ; None: `SETTLING`.
        on_progress: Called with the number of runs compared so far.

    Raises:
        TransientError: From `run`: Temporal or the database is away.
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        choice: RunChoice,
        *,
        policy: PayloadPolicy | None = None,
        ref_rules: RefRules | None = None,
        selection: Selection | None = None,
        repair: bool = False,
        settling: Sequence[float] | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.report = VerifyReport()
        self._client = client
        self._database = database
        self._choice = choice
        self._projector = Projector(client, database, policy=policy, ref_rules=ref_rules)
        self._selection = selection or Selection()
        self._repair = repair
        self._settling = SETTLING if settling is None else settling
        self._on_progress = on_progress
        self._suspects: list[_Suspect] = []

    async def run(self) -> VerifyReport:
        """Compare everything that was chosen."""
        async with self._projector:
            begun, first_run = await recorded_runs.beginning(self._database, self._client.namespace)
            since = max(self._choice.since, begun - await self._retention())
            self._choice = replace(self._choice, since=since, until=begun)
            async for heads in recorded_runs.recorded_runs(self._database, self._choice):
                await self._compare_page(heads)
                await self._settle(at_least=KEPT)
            if self._choice.ref is None:  # Temporal cannot be asked for refs.
                await self._look_for_missing(begun, first_run)
            await self._settle()
        return self.report

    async def _retention(self) -> timedelta:
        request = DescribeNamespaceRequest(namespace=self._client.namespace)
        try:
            async with bounded_call():
                answer = await self._client.workflow_service.describe_namespace(request)
        except RPCError as error:
            raise translate(error) from error
        # The server deletes a little late.
        return answer.config.workflow_execution_retention_ttl.ToTimedelta() + timedelta(days=1)

    async def _compare_page(self, heads: Sequence[RunHead]) -> None:
        for group in _in_groups(heads):
            for suspect, closed in await self._compared(group):
                if suspect is not None:
                    self._suspects.append(suspect)
                self._count(closed)
            self._on_progress(self.report.runs)

    def _count(self, read: _Read) -> None:
        self.report.runs += read.history is not None
        self.report.history_events += 0 if read.history is None else read.history.length
        if read.history is None and read.head.status not in (RunStatus.LOST, RunStatus.RUNNING):
            self.report.gone += read.head.from_history
            self.report.unverifiable += not read.head.from_history

    async def _compared(self, heads: Sequence[RunHead]) -> list[tuple[_Suspect | None, _Read]]:
        """Read histories first, rows afterwards."""
        reads = await self._read(heads)
        namespace = self._client.namespace
        stored = await recorded_runs.stored_runs(self._database, namespace, heads)
        compared: list[tuple[_Suspect | None, _Read]] = []
        for read in reads:
            run = stored.get(read.head.id)
            found: list[Difference] = []
            if run is not None and read.history is not None:
                found = compare(run, read.batch)
            elif run is not None and run.run["status"] == RunStatus.RUNNING:
                status = RunStatus.RUNNING.value
                found = [Difference("run", read.head.id, "run", "*", status, None)]
            compared.append((_suspect(read.head, found) if found else None, read))
        return compared

    async def _read(self, heads: Sequence[RunHead]) -> list[_Read]:
        room = asyncio.Semaphore(CONCURRENCY)

        async def read(head: RunHead) -> _Read:
            async with room:
                history = await self._projector.reader.read(
                    head.workflow_id,
                    head.run_key,
                    projected_at=self._choice.until,
                    erased=head.erased,
                )
            return _Read(head, history)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(head)) for head in heads]
        return [task.result() for task in tasks]

    async def _look_for_missing(self, begun: datetime, first_run: datetime | None) -> None:
        async for infos in self._executions(begun):
            taken = {
                UUID(info.execution.run_id): info
                for info in infos
                if self._selection.takes(info.type.name)
            }
            known = await known_runs(self._database, self._client.namespace, list(taken))
            self.report.executions += len(taken)
            for run_key in taken.keys() - known.keys():
                info = taken[run_key]
                if first_run is None or moment(info.start_time) < first_run:
                    self.report.unrecorded_before += 1
                else:
                    self._suspects.append(_missing(run_key, info))
            await self._settle(at_least=KEPT)

    async def _executions(self, begun: datetime) -> AsyncIterator[list[WorkflowExecutionInfo]]:
        since, types = self._choice.since.isoformat(), self._choice.workflow_types
        parts = [
            f"(CloseTime >= '{since}' OR ExecutionStatus = 'Running')",
            f"StartTime < '{begun.isoformat()}'",
        ]
        if types:
            parts.append(f"WorkflowType IN ({', '.join(map(quoted, types))})")
        page: list[WorkflowExecutionInfo] = []
        try:
            query = " AND ".join(parts)
            async for info in list_executions(self._client, query, seconds=LIST_SECONDS):
                page.append(info)
                if len(page) == recorded_runs.PAGE:
                    yield page
                    page = []
        except RPCError as error:
            raise translate(error) from error
        yield page

    async def _settle(self, at_least: int = 1) -> None:
        """Look again at what seemed to differ, if so many do; then what still does is certain."""
        if len(self._suspects) < at_least:
            return
        suspects, self._suspects = self._suspects, []
        for seconds in self._settling:
            if suspects:
                await asyncio.sleep(seconds)
                suspects = await self._look_again(suspects)
        for suspect in suspects:
            self.report.add(suspect.told(repaired=self._repair and await self._repaired(suspect)))

    async def _look_again(self, suspects: Sequence[_Suspect]) -> list[_Suspect]:
        still: list[_Suspect] = []
        for group in _in_groups([s.head for s in suspects if s.head is not None]):
            still += [suspect for suspect, _ in await self._compared(group) if suspect is not None]
        missing = [s for s in suspects if s.head is None]
        keys = [s.run_key for s in missing]
        known = await known_runs(self._database, self._client.namespace, keys)
        return still + [s for s in missing if s.run_key not in known]

    async def _repaired(self, suspect: _Suspect) -> bool:
        """Correct what differs, and look whether it is right then."""
        head = suspect.head
        if head is None:
            return (
                await self._projector.project_run(suspect.workflow_id, suspect.run_key) is not None
            )
        [read] = await self._read([head])
        if read.history is None:
            return False
        await correct(self._database, read.batch, suspect.differences)
        await self._projector.write(read.events, head.run_key)
        [(still, _)] = await self._compared([head])
        return still is None


@dataclass(frozen=True, slots=True)
class _Read:
    head: RunHead
    history: ReadHistory | None

    @property
    def events(self) -> list[TrackerEvent]:
        """Under the id by which the tables know the run."""
        return [] if self.history is None else under_id(self.history.events, self.head.id)

    @property
    def batch(self) -> Batch:
        """What history folds to."""
        return fold(self.events)


def _suspect(head: RunHead, found: Iterable[Difference]) -> _Suspect:
    return _Suspect(head.run_key, head.workflow_id, head.workflow_type, head, tuple(found))


def _missing(run_key: UUID, info: WorkflowExecutionInfo) -> _Suspect:
    difference = Difference("run", run_key, "run", "*", None, _status(info))
    return _Suspect(run_key, info.execution.workflow_id, info.type.name, None, (difference,))


def _in_groups(heads: Sequence[RunHead]) -> Iterable[list[RunHead]]:
    """Runs that are compared together: few long ones, or many short ones."""
    group: list[RunHead] = []
    weight = 0
    for head in heads:
        group.append(head)
        weight += head.length or 100
        if weight >= HISTORY_EVENTS:
            yield group
            group, weight = [], 0
    if group:
        yield group


def _status(info: WorkflowExecutionInfo) -> str:
    name = WorkflowExecutionStatus.Name(info.status)
    return name.removeprefix("WORKFLOW_EXECUTION_STATUS_").lower()
