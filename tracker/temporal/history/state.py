"""What the projection of one history knows while it reads: the run, the steps that are open, and
how this run's payloads and errors are to be treated.

Handlers get it with each event and append tracker events. What a reader would get wrong: the order
of `events` means nothing; `core.fold` reduces them in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.api.history.v1 import HistoryEvent

from tracker.core.events import (
    Failure,
    RunClosed,
    RunIdentity,
    StepClosed,
    StepIdentity,
    TrackerEvent,
)
from tracker.core.headers import is_step_name
from tracker.core.memo import Carried
from tracker.core.payloads import Handling, PayloadPolicy, StoredPayload, Treatment
from tracker.core.status import StepKind, StepStatus
from tracker.temporal.failures import failure_from_proto
from tracker.temporal.history.reading import moment, parsed
from tracker.temporal.history.rounds import Round
from tracker.temporal.payloads import json_of, stored_from_proto

Clear = Callable[[Sequence[Payload]], Sequence[Payload] | None]
"""Gives payloads as they were before the codec; None if they cannot be decoded."""

_IN_CLEAR = frozenset({Treatment.FULL, Treatment.REDACTED})


@dataclass(slots=True)
class OpenStep:
    """A step that history has not closed so far.

    Attributes:
        handling: Treatment of its values.
        position: Version position of its latest attempt, where it has some.
    """

    step: StepIdentity
    type: str
    handling: Handling
    position: int = 0


@dataclass(frozen=True, slots=True)
class AskedChild:
    """A child workflow that was asked for and has not begun.

    Attributes:
        event: `START_CHILD_WORKFLOW_EXECUTION_INITIATED`.
        asked_at: Workflow time.
    """

    event: HistoryEvent
    asked_at: datetime


@dataclass(slots=True)
class WorkflowTask:
    """The latest completed workflow task; commands of a task follow its completion.

    Attributes:
        completed_id: Event id of its completion.
        started_at: Time of its start: what `workflow.now()` gave to the code that it ran.
        worker_identity, build_id: Who completed it.
    """

    completed_id: int
    started_at: datetime
    worker_identity: str | None = None
    build_id: str | None = None


@dataclass(slots=True)
class Projection:
    """A history being read.

    Attributes:
        handling: Treatment of the run's own values.
        carried: What the memo says after the events read so far.
        clear: None where no codec is in use.
        open_steps: By the id of the history event that asked for the step.
        unstarted: Children that have not begun, likewise.
        updates: Event ids of admitted updates by update id.
        closed: The run's end, once read.
        rounds: Markers of local activities; told at the end.
        other_rounds: Likewise, as other SDKs write them.
        backoffs: Local activities' backoffs whose timers come next: workflow task, length.
    """

    run: RunIdentity
    policy: PayloadPolicy
    handling: Handling
    carried: Carried
    clear: Clear | None
    task: WorkflowTask
    events: list[TrackerEvent] = field(default_factory=list[TrackerEvent])
    open_steps: dict[int, OpenStep] = field(default_factory=dict[int, OpenStep])
    unstarted: dict[int, AskedChild] = field(default_factory=dict[int, AskedChild])
    updates: dict[str, int] = field(default_factory=dict[str, int])
    closed: RunClosed | None = None
    rounds: list[Round] = field(default_factory=list[Round])
    other_rounds: list[Round] = field(default_factory=list[Round])
    backoffs: list[tuple[int, timedelta]] = field(default_factory=list[tuple[int, timedelta]])
    _handlings: dict[tuple[str, str, str], Handling] = field(
        default_factory=dict[tuple[str, str, str], Handling]
    )

    def open_step(
        self, event_id: int, kind: StepKind, step_key: str, name: str, type_: str
    ) -> OpenStep:
        """A new step, open until `close_step` or the end of the run."""
        step = self.step_identity(kind, step_key, name)
        opened = OpenStep(step, type_, self.handling_of(step, type_))
        self.open_steps[event_id] = opened
        return opened

    def step_identity(self, kind: StepKind, step_key: str, name: str) -> StepIdentity:
        """Identity of a step of this run."""
        return StepIdentity(
            namespace=self.run.namespace,
            run_key=self.run.run_key,
            kind=kind,
            step_key=step_key,
            name=name,
        )

    def close_step(
        self,
        event: HistoryEvent,
        opened_by: int,
        status: StepStatus,
        *,
        result: Payloads | Payload | None = None,
        error: Failure | None = None,
        failure: FailureProto | None = None,
    ) -> None:
        """The end of a step without attempts.

        Args:
            opened_by: Event id under which it was opened; unknown ids are passed over.
            result: Its result, if it has one.
            error, failure: Why it failed, told or to be told as the step's handling lets it.
        """
        opened = self.open_steps.pop(opened_by, None)
        if opened is None:
            return
        if failure is not None:
            error = self.failure(failure, opened.handling)
        self.events.append(
            StepClosed(
                step=opened.step,
                type=opened.type,
                status=status,
                finished_at=moment(event.event_time),
                position=opened.position,
                output=None if result is None else self.stored_result(result, opened.handling),
                error=error,
                from_history=True,
            )
        )

    def handling_of(self, step: StepIdentity, type_: str) -> Handling:
        """What is done to a step's values."""
        key = (step.kind, step.name, type_)
        handling = self._handlings.get(key)
        if handling is None:
            handling = self.policy.handling(self.run.workflow_type, step.name, step.kind, type_)
            self._handlings[key] = handling
        return handling

    def stored(self, source: Payloads | Payload, handling: Handling) -> StoredPayload | None:
        """An argument list or a result in the form in which it is stored.

        A digest is one of the bytes in history, codec or not; only values that are kept in clear
        are decoded.
        """
        if self.clear is None or handling.treatment not in _IN_CLEAR:
            return stored_from_proto(source, handling)
        is_single = isinstance(source, Payload)
        decoded = self.clear([source] if is_single else source.payloads)
        if not decoded:
            return None
        clear_source = decoded[0] if is_single else Payloads(payloads=decoded)
        return stored_from_proto(clear_source, handling)

    def stored_result(self, result: Payloads | Payload, handling: Handling) -> StoredPayload | None:
        """A result; history wraps most of them in a list of one."""
        if isinstance(result, Payload):
            return self.stored(result, handling)
        return self.stored(result.payloads[0], handling) if result.payloads else None

    def summary(self, event: HistoryEvent) -> str | None:
        """The one line that workflow code gave a command for people, if it can name a step. One
        that went through a codec is text like any other: only where text of the run is kept."""
        if not event.HasField("user_metadata"):
            return None
        payload = event.user_metadata.summary
        text = json_of(payload)
        if text is None and self.handling.keeps_text:
            text = own_json(self.clear, payload)
        summary = parsed(text)
        return summary if is_step_name(summary) else None

    def failure(self, failure: FailureProto, handling: Handling) -> Failure:
        """A failure as far as it may be told."""
        return failure_from_proto(failure, handling.keeps_text, partial(own_json, self.clear))


def step_failure(type_: str, message: str, handling: Handling) -> Failure:
    """A failure that history states without a failure message of its own."""
    return Failure(type=type_, message=message if handling.keeps_text else None)


def own_json(clear: Clear | None, payload: Payload) -> bytes | None:
    """JSON text of a payload that is ours or an error's, behind a codec or not."""
    text = json_of(payload)
    if text is not None or clear is None:
        return text
    decoded = clear([payload])
    return json_of(decoded[0]) if decoded else None
