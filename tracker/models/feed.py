"""The live feed on the wire: what changed, which changes are wanted, and the frames of a socket.

A change shows its run or step as it was right after the change. Values (inputs, outputs) and
attempts are not in it; read the run for those.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field, TypeAdapter, model_validator

from tracker.core.status import ChangeKind, RunStatus, StepStatus
from tracker.models.wire import Answer, Name, RefId, RefType, RunRead, StepState, Wire

SNAPSHOT_MAX = 500
SUBSCRIPTIONS_MAX = 100
"""Of one socket."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


OneOrMore = BeforeValidator(_as_list)


class ChangeFilter(Wire):
    """Which changes somebody wants; all given conditions must hold.

    Attributes:
        run_id: Ours or Temporal's.
        status: Of the run, or the step, that changed.
    """

    ref_type: RefType | None = Field(default=None, description="Refs include further links.")
    ref_id: RefId | None = None
    run_id: UUID | None = Field(default=None, description="Of this run and its steps alone.")
    workflow_type: Annotated[list[Name], OneOrMore] = Field(
        default_factory=list[str], max_length=20, description="Repeatable: any of them."
    )
    status: Annotated[list[RunStatus | StepStatus], OneOrMore] = Field(
        default_factory=list[RunStatus | StepStatus],
        max_length=20,
        description="Repeatable: the run, or the step, that changed has any of these.",
    )
    kinds: Annotated[list[ChangeKind], OneOrMore] = Field(
        default_factory=list[ChangeKind],
        max_length=10,
        description="Repeatable: changes of runs, or of steps; else of both.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ref_id is not None and self.ref_type is None:
            raise ValueError("ref_id needs ref_type beside it")
        return self


class ChangesAfter(ChangeFilter):
    """Parameters of `GET /v1/changes`."""

    after: int = Field(
        default=0, ge=0, le=2**62, description="`last_seq` of the answer before; 0: all kept ones."
    )
    limit: int = Field(default=100, ge=1, le=1000)
    wait: float = Field(
        default=0, ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for the first."
    )


class StreamFrom(ChangeFilter):
    """Parameters of `GET /v1/stream`."""

    after: int | None = Field(
        default=None, ge=0, le=2**62, description="Go on after this seq, without a snapshot."
    )
    ticket: str | None = Field(
        default=None, max_length=100, description="From `POST /v1/tickets`, instead of a key."
    )
    snapshot: int = Field(default=50, ge=0, le=SNAPSHOT_MAX, description="Runs in a snapshot.")


class ChangedRun(RunRead):
    """A run right after a change."""

    paused_at: AwareDatetime | None = None
    erased_at: AwareDatetime | None = Field(
        default=None, description="Values and texts were erased: forget what earlier changes told."
    )
    waiting_on: list[dict[str, Any]] | None = None


class Change(Answer):
    """An entry of the live feed."""

    seq: int = Field(description="Its place in the order that all readers share.")
    at: AwareDatetime
    kind: ChangeKind
    run_id: UUID | None = Field(default=None, description="Absent where its run is unknown.")
    workflow_type: str | None = None
    ref_type: str | None = None
    ref_id: str | None = None
    status: str = Field(description="Of the run or step that changed.")
    run: ChangedRun | None = Field(default=None, description="Of a change of a run.")
    step: StepState | None = Field(default=None, description="Of a change of a step.")


class ChangePage(Answer):
    """`GET /v1/changes`: what changed after a seq, oldest first.

    Attributes:
        last_seq: Where to go on; also past changes that the filter left out.
    """

    changes: list[Change]
    last_seq: int = Field(description="`after` of the next call.")
    more: bool = Field(default=False, description="Whether more is there at once.")


class Snapshot(Answer):
    """What there is: forget what you knew, and go on with the changes after `seq`."""

    seq: int
    runs: list[RunRead] = Field(description="Newest first, as many as were asked for.")
    steps: list[StepState] = Field(
        default_factory=list[StepState], description="Where one run is watched: its steps."
    )


class Ticket(Answer):
    """`POST /v1/tickets`: opens one live connection, as query parameter `ticket`."""

    ticket: str
    expires_at: AwareDatetime


FrameId = Annotated[str, Field(min_length=1, max_length=100)]


class Subscribe(Wire):
    """Ask for changes; several subscriptions share a socket.

    Attributes:
        id: Any name; frames about this subscription carry it.
        after: Go on after this seq. None: a snapshot first, then what changes after it.
        snapshot: Runs in the snapshot at most.
    """

    type: Literal["subscribe"]
    id: FrameId
    filters: ChangeFilter = Field(default_factory=ChangeFilter)
    after: int | None = Field(default=None, ge=0, le=2**62)
    snapshot: int = Field(default=50, ge=0, le=SNAPSHOT_MAX)


class Unsubscribe(Wire):
    """End a subscription."""

    type: Literal["unsubscribe"]
    id: FrameId


class Ping(Wire):
    """Answered by `pong`."""

    type: Literal["ping"]


REQUESTS: TypeAdapter[Subscribe | Unsubscribe | Ping] = TypeAdapter(
    Annotated[Subscribe | Unsubscribe | Ping, Field(discriminator="type")]
)
"""Frames that a client may send."""
