"""Every error the library raises, one tree.

    TrackerError
    ├── InvalidRequest            the caller must change something (HTTP 4xx)
    │   ├── NotFound
    │   │   └── UnknownWorkflowType
    │   ├── Conflict
    │   │   ├── IdempotencyConflict
    │   │   └── StartRejected
    │   ├── NotAuthenticated
    │   ├── NotAllowed
    │   ├── PayloadTooLarge
    │   └── ChangesGone
    ├── TransientError            try again later, nothing is wrong with the request
    │   ├── DatabaseUnavailable
    │   ├── TemporalUnavailable
    │   ├── ApiUnavailable
    │   └── RunNotFinished
    └── FatalError                retrying will not help; somebody must act
        ├── SchemaMismatch
        ├── ConfigurationError
        │   └── DirectoryInUse        (tracker.embedded.ownership)
        ├── EmbeddedServersMissing
        ├── EmbeddedServerFailed      (tracker.embedded.process)
        ├── UnexpectedAnswer
        ├── OutputNotKept
        └── RunFailed             `result` of a run that ended without one
            ├── RunCanceled
            ├── RunTerminated
            ├── RunTimedOut
            ├── RunContinued
            └── RunLost

`code` is stable and meant for programs; the message is meant for people and says what to do.
HTTP statuses live in the API alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

ErrorClass = Literal["invalid", "transient", "fatal"]


class TrackerError(Exception):
    """Root of the tree.

    Attributes:
        code: Stable snake_case name of the failure.
        error_class: `invalid` (change the request), `transient` (retry later) or `fatal`
            (an operator must act).
        details: JSON-able facts about the failure, for programs.
    """

    code: ClassVar[str] = "tracker_error"
    error_class: ClassVar[ErrorClass] = "fatal"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details


class InvalidRequest(TrackerError):
    """The request cannot be carried out as it is; the message names what to change."""

    code = "invalid_request"
    error_class = "invalid"


class NotFound(InvalidRequest):
    """What the request names does not exist."""

    code = "not_found"


class UnknownWorkflowType(NotFound):
    """No worker has registered this workflow type and no task queue was given."""

    code = "unknown_workflow_type"


class Conflict(InvalidRequest):
    """The request contradicts what is already on record."""

    code = "conflict"


class IdempotencyConflict(Conflict):
    """The idempotency key was used before with a different request."""

    code = "idempotency_conflict"


class StartRejected(Conflict):
    """Temporal refused the start for good; the run is on record as `rejected`."""

    code = "start_rejected"


class InputNotAvailable(Conflict):
    """The run's input was not kept, or not completely, and Temporal has no history of it."""

    code = "input_not_available"


class TooManyRuns(Conflict):
    """A bulk action's filter has more runs than it may take."""

    code = "too_many_runs"


class NotAuthenticated(InvalidRequest):
    """The API key or token is missing, wrong, expired or revoked."""

    code = "not_authenticated"


class NotAllowed(InvalidRequest):
    """The caller lacks the scope that this call needs, or is kept to other runs."""

    code = "not_allowed"


class PayloadTooLarge(InvalidRequest):
    """The body or a value in it is larger than the limit."""

    code = "payload_too_large"


class ChangesGone(InvalidRequest):
    """The changes after this place are no longer kept, or the place is none of this feed's; read
    the state anew and go on from there. `details` has `kept_after` and `last_seq`."""

    code = "changes_gone"


class TransientError(TrackerError):
    """Something we depend on is away; the same request may succeed later."""

    code = "transient"
    error_class = "transient"


class RateLimited(TransientError):
    """The caller makes more requests a second than its key allows; this one was not carried out.

    `details["retry_after"]` has the seconds after which the next one is.
    """

    code = "rate_limited"


class DatabaseUnavailable(TransientError):
    """Postgres cannot be reached or does not answer in time."""

    code = "database_unavailable"


class TemporalUnavailable(TransientError):
    """Temporal cannot be reached or does not answer in time."""

    code = "temporal_unavailable"


class ApiUnavailable(TransientError):
    """The tracker's API cannot be reached, or something before it answers in its place."""

    code = "api_unavailable"


class RunNotFinished(TransientError):
    """The run is still open after the time that the caller was willing to wait."""

    code = "run_not_finished"


class FatalError(TrackerError):
    """Retrying will not help; somebody who runs the system must act."""

    code = "fatal"
    error_class = "fatal"


class SchemaMismatch(FatalError):
    """The database schema is missing, older or newer than this version needs."""

    code = "schema_mismatch"


class DecryptionFailed(FatalError):
    """A stored value or a payload is encrypted with a key that is not at hand, or was changed."""

    code = "decryption_failed"


class ConfigurationError(FatalError):
    """A setting is missing or contradicts another one."""

    code = "configuration_error"


class EmbeddedServersMissing(FatalError):
    """The wheels that carry the embedded Postgres and Temporal are not installed."""

    code = "embedded_servers_missing"


class UnexpectedAnswer(FatalError):
    """The API answered something that this version does not understand."""

    code = "unexpected_answer"


class OutputNotKept(FatalError):
    """The run completed, but the payload policy or a codec keeps its output out of the tracker."""

    code = "output_not_kept"


class RunFailed(FatalError):
    """The run ended without a result.

    `details` has `run_id`, `status` and, where known, `error` with `type`, `message` and `stack`.
    """

    code = "run_failed"


class RunCanceled(RunFailed):
    """The run was canceled."""

    code = "run_canceled"


class RunTerminated(RunFailed):
    """The run was terminated."""

    code = "run_terminated"


class RunTimedOut(RunFailed):
    """A workflow timeout ended the run."""

    code = "run_timed_out"


class RunContinued(RunFailed):
    """The run handed over to the next one of its chain, which the caller did not want followed;
    `details["continued_to"]` is its Temporal run id."""

    code = "run_continued"


class RunLost(RunFailed):
    """The run's history was gone before a close was seen: how it ended is unknown."""

    code = "run_lost"
