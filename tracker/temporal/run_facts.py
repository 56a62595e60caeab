"""Facts about one run, told from inside its workflow code as they happen.

Runs on the workflow's thread: nothing here blocks, imports, raises or adds a command. Facts are
told only outside replay. A close is a claim, dated by the history's length: the server may still
refuse the task that made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any
from uuid import UUID

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import FailureError, TimeoutError, is_cancelled_exception

from tracker.core.events import (
    RunClosed,
    RunIdentity,
    RunMetadataSet,
    RunProgressed,
    RunRefAdded,
    RunStarted,
    RunTaskFailed,
    StepClosed,
    StepIdentity,
    StepStarted,
)
from tracker.core.ids import Ref
from tracker.core.memo import MEMO_FIELD, Carried, read_memo
from tracker.core.payloads import Handling
from tracker.core.status import RunStatus, StepKind, StepStatus
from tracker.temporal.failures import failure_from_exception
from tracker.temporal.scope import WorkerScope


class RunFacts:
    """What one workflow instance tells the recorder.

    Args:
        scope: Of the worker; None in a replayer.
        memo: Of the run's start; copied, for the SDK keeps it current.
    """

    def __init__(self, scope: WorkerScope | None, memo: Mapping[str, Payload]) -> None:
        self._scope = scope
        self._identity: RunIdentity | None = None
        self._handling: Handling | None = None
        self._carried: tuple[object, Carried] | None = None
        self._start_memo = dict(memo)
        self._run_id: UUID | None = None
        self._resumed = False
        self._changes = 0

    def tell(self, fact: Callable[[WorkerScope, RunIdentity], None], what: str) -> None:
        """Run a reporting function unless this is a replay or the run is not tracked; what it
        raises stays with the tracker."""
        scope = self._scope
        if scope is None:
            return
        try:
            if workflow.unsafe.is_replaying():
                self._resumed = True
                return
            if scope.records(workflow.info().workflow_type):
                scope.clock.observe(workflow.now())
                identity = self.identity(scope)
                self._told_resumed(scope, identity)
                fact(scope, identity)
        except Exception:
            scope.failed(what)

    def now(self) -> datetime:
        """Server time; workflow time in replay."""
        scope, now = self._scope, workflow.now()
        if scope is None or workflow.unsafe.is_replaying():
            return now
        scope.clock.observe(now)
        return scope.clock.now() or now

    def carried(self) -> Carried:
        """What the run's memo says at this moment; decoded again only after it changed."""
        payload = workflow.info().raw_memo.get(MEMO_FIELD)
        if self._carried is None or self._carried[0] is not payload:
            self._carried = (payload, _decoded() if payload is not None else Carried())
        return self._carried[1]

    def carries_changes(self) -> bool:
        """Whether the workflow changed what its memo says."""
        now = workflow.info().raw_memo.get(MEMO_FIELD)
        return now is not self._start_memo.get(MEMO_FIELD)

    def memo_at_start(self) -> Mapping[str, RawValue] | None:
        """The memo that the run was started with; None if the user's converter cannot write it as
        it was read."""
        memo = {name: RawValue(payload) for name, payload in self._start_memo.items()}
        try:
            workflow.payload_converter().to_payloads([*memo.values()])
        except Exception:  # It would fail the workflow task again and again.
            return None
        return memo

    def run_id(self) -> UUID:
        """Our public id of the run."""
        if self._run_id is None:
            info = workflow.info()
            first = UUID(info.first_execution_run_id or info.run_id)
            run_key = UUID(info.run_id)
            self._run_id = self.carried().run_id(info.namespace, info.workflow_id, run_key, first)
        return self._run_id

    def shown(self, summary: str | None) -> str | None:
        """A summary that the workflow gave a command, unless it may be read behind a codec only."""
        scope = self._scope
        if scope is None or not scope.has_codec:
            return summary
        handling = scope.policy.handling(workflow.info().workflow_type)
        return summary if handling.keeps_text else None

    def log_fields(self) -> dict[str, Any]:
        """What log records of this run carry; empty if it cannot be told."""
        try:
            ref = self.carried().effective_ref
            return {
                "ref_type": ref.ref_type if ref else None,
                "ref_id": ref.ref_id if ref else None,
                "run_id": str(self.run_id()),
                "temporal_run_id": workflow.info().run_id,
            }
        except Exception:  # Labels of log records must never cost a workflow task.
            return {}

    def identity(self, scope: WorkerScope) -> RunIdentity:
        """Who this run is; computed once per instance."""
        if self._identity is None:
            self._identity = _identity(scope, self.run_id(), self.carried().ref)
        return self._identity

    def started(self, arguments: Sequence[Any]) -> None:
        """The workflow function is about to run for the first time."""

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            handling, carried = self._handling_of(scope, run), self.carried()
            scope.record(
                RunStarted(
                    run=run,
                    history_length=_length(),
                    metadata=carried.metadata if handling.keeps_text and carried.metadata else None,
                    input=scope.stored_input(arguments, handling),
                    worker_identity=scope.worker_identity,
                    build_id=scope.build_id,
                )
            )
            for position, link in enumerate(carried.links):
                self._tell_ref(scope, run, link, carried.ref is None and position == 0)

        self.tell(fact, "run.started")

    def progressed(self) -> None:
        """Something reached the run (a signal): if an earlier close was refused, it is open."""
        self.tell(lambda _scope, _run: None, "run.progressed")

    def completed(self, result: Any) -> None:
        """The workflow function returned."""

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            output = scope.stored_output(result, self._handling_of(scope, run))
            refused = scope.refusal(result, output)
            if refused is not None:
                self.raised(refused)
                return
            scope.record(
                RunClosed(
                    run=run,
                    history_length=_length(),
                    status=RunStatus.COMPLETED,
                    finished_at=self.now(),
                    output=output,
                )
            )

        self.tell(fact, "run.completed")

    def continued_as_new(self) -> None:
        """The workflow handed over to the next run of its chain."""

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            scope.record(
                RunClosed(
                    run=run,
                    history_length=_length(),
                    status=RunStatus.CONTINUED_AS_NEW,
                    finished_at=self.now(),
                )
            )

        self.tell(fact, "run.continued_as_new")

    def raised(self, error: BaseException) -> None:
        """The workflow function raised: the run is canceled or failed, or only its task failed."""
        if _being_evicted():
            return

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            failure = failure_from_exception(error, self._handling_of(scope, run).keeps_text)
            status = _status_after(error)
            if status is None:
                scope.record(
                    RunTaskFailed(
                        run=run, history_length=_length(), failed_at=self.now(), error=failure
                    )
                )
                return
            scope.record(
                RunClosed(
                    run=run,
                    history_length=_length(),
                    status=status,
                    finished_at=self.now(),
                    error=failure if status is RunStatus.FAILED else None,
                )
            )

        self.tell(fact, "run.failed")

    def ref_added(self, ref_type: str, ref_id: str) -> None:
        """`tracker.workflow.set_ref` gave the run a link that it did not have."""

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            ref, carried = Ref(ref_type, ref_id), self.carried()
            self._tell_ref(scope, run, ref, carried.ref is None and carried.links[:1] == (ref,))

        self.tell(fact, "run.ref_added")

    def metadata_set(self, metadata: dict[str, Any]) -> None:
        """`tracker.workflow.set_metadata` changed the run's metadata."""

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            if not self._handling_of(scope, run).keeps_text:
                return
            self._changes += 1
            scope.record(
                RunMetadataSet(
                    run=run, history_length=_length(), ordinal=self._changes, metadata=metadata
                )
            )

        self.tell(fact, "run.metadata_set")

    def step_started(
        self,
        step: StepIdentity,
        arguments: Sequence[Any],
        detail: dict[str, Any] | None = None,
    ) -> None:
        """A child began, or an update was accepted."""

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            handling = _handling_of_step(scope, run, step)
            scope.record(
                StepStarted(
                    step=step,
                    type=step.name,
                    started_at=self.now(),
                    input=scope.stored_input(arguments, handling),
                    detail=detail,
                )
            )

        self.tell(fact, "step.started")

    def step_closed(
        self, step: StepIdentity, error: BaseException | None, result: Any = None
    ) -> None:
        """A child or an update ended."""

        def fact(scope: WorkerScope, run: RunIdentity) -> None:
            handling = _handling_of_step(scope, run, step)
            status = _step_status(step.kind, error)
            # A cancellation is no failure, and history tells none.
            told = None if status is StepStatus.CANCELED else error
            scope.record(
                StepClosed(
                    step=step,
                    type=step.name,
                    status=status,
                    finished_at=self.now(),
                    output=scope.stored_output(result, handling) if error is None else None,
                    error=None
                    if told is None
                    else failure_from_exception(told, handling.keeps_text),
                )
            )

        self.tell(fact, "step.closed")

    def step_identity(self, kind: StepKind, step_key: str, name: str) -> StepIdentity:
        """Identity of a step of this run."""
        info = workflow.info()
        return StepIdentity(
            namespace=info.namespace,
            run_key=UUID(info.run_id),
            kind=kind,
            step_key=step_key,
            name=name,
        )

    def _told_resumed(self, scope: WorkerScope, run: RunIdentity) -> None:
        if self._resumed:
            self._resumed = False
            scope.record(RunProgressed(run=run, history_length=_length()))

    def _tell_ref(self, scope: WorkerScope, run: RunIdentity, ref: Ref, primary: bool) -> None:
        scope.record(RunRefAdded(run=run, history_length=_length(), ref=ref, primary=primary))

    def _handling_of(self, scope: WorkerScope, run: RunIdentity) -> Handling:
        if self._handling is None:
            self._handling = scope.policy.handling(run.workflow_type)
        return self._handling


def _handling_of_step(scope: WorkerScope, run: RunIdentity, step: StepIdentity) -> Handling:
    return scope.policy.handling(run.workflow_type, step.name, step.kind, step.name)


current_facts: ContextVar[RunFacts | None] = ContextVar("flowtrail_run_facts", default=None)
"""Facts of the workflow whose code runs in this context, for the extern functions."""


def _decoded() -> Carried:
    try:
        return read_memo(workflow.memo_value(MEMO_FIELD, None))
    except Exception:  # A foreign data converter may refuse a memo that others wrote.
        return Carried()


def _identity(scope: WorkerScope, run_id: UUID, ref: Ref | None) -> RunIdentity:
    info, rule_ref = workflow.info(), None
    if ref is None and scope.ref_rules is not None:
        rule_ref = scope.ref_rules(info.workflow_type, info.workflow_id)
    return RunIdentity(
        id=run_id,
        namespace=info.namespace,
        run_key=UUID(info.run_id),
        workflow_type=info.workflow_type,
        workflow_id=info.workflow_id,
        task_queue=info.task_queue,
        first_run_key=UUID(info.first_execution_run_id or info.run_id),
        started_at=info.workflow_start_time,
        ref=ref,
        rule_ref=rule_ref,
        parent_run_key=UUID(info.parent.run_id) if info.parent else None,
        parent_workflow_id=info.parent.workflow_id if info.parent else None,
        root_run_key=UUID(info.root.run_id) if info.root else None,
        continued_from=UUID(info.continued_run_id) if info.continued_run_id else None,
        attempt=info.attempt,
        cron_schedule=info.cron_schedule,
    )


def _length() -> int:
    return workflow.info().get_current_history_length()


def _status_after(error: BaseException) -> RunStatus | None:
    """As the SDK decides it; None: the task fails and is tried again, the run stays open."""
    canceled = isinstance(error, asyncio.CancelledError) or is_cancelled_exception(error)
    if canceled and workflow.cancellation_reason() is not None:
        return RunStatus.CANCELED
    if isinstance(error, asyncio.CancelledError) or workflow.is_failure_exception(error):
        return RunStatus.FAILED
    return None


def _step_status(kind: StepKind, error: BaseException | None) -> StepStatus:
    if error is None:
        return StepStatus.COMPLETED
    if kind is StepKind.UPDATE:  # It completes or fails: a cancellation in it is a failure.
        return StepStatus.FAILED
    if isinstance(error, asyncio.CancelledError) or is_cancelled_exception(error):
        return StepStatus.CANCELED
    if isinstance(error, FailureError) and isinstance(error.cause, TimeoutError):
        return StepStatus.TIMED_OUT
    return StepStatus.FAILED


def _being_evicted() -> bool:
    # Eviction cancels the workflow's tasks, which looks like a cancellation to its code. The SDK
    # keeps this to itself; without the attribute the claim is made and history corrects it.
    runtime: Any = workflow._Runtime.maybe_current()  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
    return runtime is None or bool(getattr(runtime, "_deleting", False))
