"""Statuses of runs, steps and attempts, and the versions that decide between two of them.

A status is never assigned: facts carry a version, and the greatest version wins, in Python
(`core.merge`) as in SQL. What a reader gets wrong: a *live* close is only a claim. A worker may
say "completed" for a task that the server then refuses; history outranks every live fact.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum, StrEnum


class RunStatus(StrEnum):
    """Where a run is in its life. Arrows: `accepted → running | rejected | canceled`,
    `running →` any of the closed ones."""

    ACCEPTED = "accepted"
    """Committed with us, not yet known to Temporal. In: a start. Out: Temporal answers."""
    REJECTED = "rejected"
    """Temporal refused the start for good. Final."""
    RUNNING = "running"
    """Open in Temporal (including one that waits for its first workflow task)."""
    COMPLETED = "completed"
    """Returned a result. Final."""
    FAILED = "failed"
    """Raised a failure. Final for this run; a retry is a new run of its chain."""
    CANCELED = "canceled"
    """Ended by a cancellation, or canceled before Temporal was called. Final."""
    TERMINATED = "terminated"
    """Ended from outside without asking the workflow. Final."""
    TIMED_OUT = "timed_out"
    """Ended by a workflow timeout. Final."""
    CONTINUED_AS_NEW = "continued_as_new"
    """Ended by handing over to the next run of its chain. Final."""
    LOST = "lost"
    """Its history was gone before a close was seen: the verdict is unknown. Final."""


CLOSED_RUN_STATUSES = frozenset(RunStatus) - {RunStatus.ACCEPTED, RunStatus.RUNNING}


class StepStatus(StrEnum):
    """Where a step is. `scheduled → started → completed | failed | canceled | timed_out`; a step
    whose attempt failed and will be tried again is `scheduled` with `next_retry_at`."""

    SCHEDULED = "scheduled"
    """Asked for, no attempt is under way (queued, or backing off)."""
    STARTED = "started"
    """An attempt is under way."""
    COMPLETED = "completed"
    """Gave a result. Final."""
    FAILED = "failed"
    """Its last attempt failed and no further one follows. Final."""
    CANCELED = "canceled"
    """Canceled, or its run closed around it. Final."""
    TIMED_OUT = "timed_out"
    """A timeout ended it. Final."""


CLOSED_STEP_STATUSES = frozenset(StepStatus) - {StepStatus.SCHEDULED, StepStatus.STARTED}


class StepKind(StrEnum):
    """What kind of work a step is; the key that tells two of a kind apart is in `core.ids`."""

    ACTIVITY = "activity"
    LOCAL_ACTIVITY = "local_activity"
    CHILD_WORKFLOW = "child_workflow"
    UPDATE = "update"
    TIMER = "timer"
    SIGNAL = "signal"
    NEXUS_OPERATION = "nexus_operation"
    EXTERNAL = "external"
    """Of an externally driven run, as its owner reports it."""


class AttemptOutcome(StrEnum):
    """How one try of a step ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    """Never reported: its worker died, or the report did; a later try or the close proves it."""


class Engine(StrEnum):
    """What drives a run."""

    TEMPORAL = "temporal"
    EXTERNAL = "external"
    PATHWAY = "pathway"


class ChangeKind(StrEnum):
    """What a change of the live feed is of."""

    RUN = "run"
    STEP = "step"
    """Attempts included: each start and end of one changes its step."""


class BulkAction(StrEnum):
    """What can be done to many runs at once."""

    CANCEL = "cancel"
    TERMINATE = "terminate"
    SIGNAL = "signal"
    RERUN = "rerun"
    RESET = "reset"


class BulkStatus(StrEnum):
    """Where an action on many runs is: gathering → acting → completed | canceled | failed."""

    GATHERING = "gathering"
    """Its runs are being listed; nothing is done to any of them yet."""
    ACTING = "acting"
    COMPLETED = "completed"
    """Every run was dealt with; some may have failed, which their items tell."""
    CANCELED = "canceled"
    FAILED = "failed"
    """It could not go on; `error` tells why."""


ENDED_BULKS = (BulkStatus.COMPLETED, BulkStatus.CANCELED, BulkStatus.FAILED)


class BulkItemStatus(StrEnum):
    """What became of one run of such an action."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class RunRank(IntEnum):
    """Order of run statuses at the same history length."""

    ACCEPTED = 0
    RUNNING = 1
    REFUSED = 2
    CLOSED = 3


class StepRank(IntEnum):
    """Order of step statuses within one attempt."""

    SCHEDULED = 0
    STARTED = 1
    BACKING_OFF = 2
    CLOSED = 3


class OutcomeRank(IntEnum):
    """Order of what is said about one attempt: a late live report still beats `lost`."""

    RUNNING = 0
    LOST = 1
    REPORTED = 2
    HISTORY = 3


# A version is one signed 64-bit integer, so that SQL compares it as plain bigint:
# bit 60 = said by history about a close, bits 4..58 = position, bits 0..3 = rank.
HISTORY_AUTHORITY = 1 << 60
_RANK_BITS = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run_version(rank: RunRank, history_length: int, *, from_history: bool = False) -> int:
    """Version of a run's status.

    Args:
        rank: Kind of statement.
        history_length: Events in the run's history when it was made; 0 before Temporal knows it.
        from_history: Whether history itself says so; such a statement outranks live ones.
    """
    return _version(history_length, rank, from_history)


def metadata_version(history_length: int, ordinal: int, *, from_history: bool = False) -> int:
    """Version of a run's metadata.

    Args:
        history_length: Events in the run's history at the change.
        ordinal: Number of the change within its workflow instance, which tells apart those of one
            task.
        from_history: Whether history says so.
    """
    position = (history_length << 16) | min(ordinal, 0xFFFF)
    return (HISTORY_AUTHORITY if from_history else 0) | position


def step_version(rank: StepRank, position: int, *, from_history: bool = False) -> int:
    """Version of a step's status: its latest attempt speaks, and history outranks live claims.

    Args:
        rank: Kind of statement.
        position: Start of the attempt it speaks of, in microseconds by the server's clock; the
            attempt's number for local activities; 0 before the first attempt.
        from_history: Whether history says so of a step that it knows closed.
    """
    return _version(position, rank, from_history)


def position_of(version: int) -> int:
    """Position of a run's or step's status version."""
    return (version & ~HISTORY_AUTHORITY) >> _RANK_BITS


def micros(moment: datetime) -> int:
    """Whole microseconds since 1970, exact where `timestamp()` would round."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _version(position: int, rank: int, from_history: bool) -> int:
    return (HISTORY_AUTHORITY if from_history else 0) | (max(position, 0) << _RANK_BITS) | rank
