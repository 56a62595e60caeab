"""What the client's methods take: the keyword arguments that both clients share, and the
connection settings. Nothing here reads the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal, TypedDict
from uuid import UUID

import httpx

from tracker import __version__
from tracker.core.ids import Ref
from tracker.core.status import RunStatus, StepStatus
from tracker.errors import InvalidRequest
from tracker.models.wire import Priority


class Unset(Enum):
    """Type of `UNSET`."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET
"""No argument at all, where None would be one."""

Duration = float | timedelta
"""Seconds, or a timedelta."""
RefLike = Ref | str | tuple[str, str]
"""A `Ref`, `"ref_type/ref_id"` or a pair."""
Scalar = str | int | float | bool
"""A metadata value that can be filtered by."""


class StartOptions(TypedDict, total=False):
    """Keyword arguments of `start_workflow`; None counts as not given.

    Attributes:
        args: Several arguments, in order; instead of `input`.
        ref: The business object, in place of `ref_type` and `ref_id`.
        metadata: JSON object that lists can be filtered by.
        idempotency_key: Starts with the same key give the same run; makes the start repeatable.
        task_queue: Needed for a workflow type that no worker has announced.
        workflow_id: Default `{workflow_type}/{run id}`.
        start_delay, execution_timeout, run_timeout: Seconds or timedelta.
    """

    args: Sequence[Any] | None
    ref: RefLike | None
    ref_type: str | None
    ref_id: str | None
    metadata: Mapping[str, Any] | None
    idempotency_key: str | None
    task_queue: str | None
    workflow_id: str | None
    id_reuse_policy: (
        Literal["allow_duplicate", "allow_duplicate_failed_only", "reject_duplicate"] | None
    )
    id_conflict_policy: Literal["fail", "use_existing", "terminate_existing"] | None
    start_delay: Duration | None
    execution_timeout: Duration | None
    run_timeout: Duration | None
    priority: Priority | None


class ResultOptions(TypedDict, total=False):
    """Keyword arguments of `result`.

    Attributes:
        timeout: Seconds or timedelta for the whole wait; absent or None: for ever.
        follow_runs: Whether to go on with the next run of the chain (continue-as-new, retry,
            cron), as Temporal's own `result` does; absent: True.
    """

    timeout: Duration | None
    follow_runs: bool


class WatchOptions(TypedDict, total=False):
    """Which changes are wanted; all given conditions must hold.

    Attributes:
        run: A run, by our id or Temporal's.
        ref: The business object, in place of `ref_type` and `ref_id`.
        status: Of the run or step that changed; one or several.
        kinds: `run`, `step`, or both.
    """

    run: UUID | str | None
    ref: RefLike | None
    ref_type: str | None
    ref_id: str | None
    workflow_type: str | Sequence[str] | None
    status: str | Sequence[str] | None
    kinds: str | Sequence[str] | None


class ReportOptions(TypedDict, total=False):
    """Keyword arguments of `report_run`; None counts as not given, but for `sleep_until`.

    Attributes:
        run_id, own_id: Which run: by our id, or by its owner's.
        workflow_type: Needed of a new run.
        status: `accepted`, `running`, `completed`, `failed` or `canceled`.
        error: With `type`, `message` and `stack`.
        sleep_until: The run waits until then; None: it no longer does.
    """

    run_id: UUID | str | None
    own_id: str | None
    workflow_type: str | None
    ref: RefLike | None
    ref_type: str | None
    ref_id: str | None
    status: str | None
    metadata: Mapping[str, Any] | None
    input: Any
    output: Any
    error: Mapping[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None
    sleep_until: datetime | None


class StepReportOptions(TypedDict, total=False):
    """Keyword arguments of `report_step`; None counts as not given.

    Attributes:
        index: Its place among the steps of its run; part of what names it.
        attempt: Number of the try; else counted by the server.
        next_retry_at: With status `scheduled`: a try failed, and another follows then.
    """

    index: int | None
    attempt: int | None
    max_attempts: int | None
    output: Any
    error: Mapping[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None
    next_retry_at: datetime | None


class WorkflowFilters(TypedDict, total=False):
    """Filters of `list_workflows`; all given ones must hold.

    Attributes:
        workflow_type: One or several; any of them.
        limit: Workflows of a page, at most 500.
        cursor: `next_cursor` of the page before.
    """

    ref: RefLike | None
    ref_type: str | None
    ref_id: str | None
    workflow_type: str | Sequence[str] | None
    limit: int | None
    cursor: str | None


class RunFilters(WorkflowFilters, total=False):
    """Filters of `list_runs` and `iter_runs`; all given ones must hold.

    Attributes:
        status: One or several; any of them.
        metadata: Key to one or several values: any value of a key, every key.
        started_after, started_before, finished_after, finished_before: Aware datetimes.
        parent, rerun_of: Our id of a run, or Temporal's (of `rerun_of` ours alone).
        failure: Fingerprint of a group that `failures` told.
        failed_step: Name of a step that ended as failed.
        retrying: True: a step is tried again and again.
        waiting_on: Kind of thing that an open run waits for, such as `timer`.
        min_duration, max_duration: Seconds or timedelta, of ended runs.
    """

    status: RunStatus | str | Sequence[RunStatus | str] | None
    metadata: Mapping[str, Scalar | Sequence[Scalar]] | None
    workflow_id: str | None
    task_queue: str | None
    started_after: datetime | None
    started_before: datetime | None
    finished_after: datetime | None
    finished_before: datetime | None
    order: Literal["newest", "oldest"] | None
    build_id: str | None
    parent: UUID | str | None
    roots_only: bool | None
    rerun_of: UUID | str | None
    failure: UUID | str | None
    failed_step: str | None
    retrying: bool | None
    waiting_on: str | None
    min_duration: Duration | None
    max_duration: Duration | None


class AuditFilters(TypedDict, total=False):
    """Filters of `audit` and `iter_audit`; all given ones must hold.

    Attributes:
        actor: Name of an API key, or whoever acted.
        action: Such as `cancel`.
        run_id: Our id of the run.
        outcome: `done`, or the code of an error.
        after, before: Aware datetimes.
        limit: Entries of a page, at most 500.
        cursor: `next_cursor` of the page before.
    """

    actor: str | None
    action: str | None
    run_id: UUID | str | None
    outcome: str | None
    after: datetime | None
    before: datetime | None
    limit: int | None
    cursor: str | None


class ResetOptions(TypedDict, total=False):
    """Keyword arguments of `reset`; without any, the run goes on from the step that failed last.

    Attributes:
        to: `failed_step`, `step` (give `step_id`) or `event` (give `event_id`).
        reapply_signals, reapply_updates: Whether what came later reaches the new run; absent: True.
        dry_run: Only tell what would run again.
        reason: For the audit.
    """

    to: Literal["failed_step", "step", "event"] | None
    step_id: UUID | str | None
    event_id: int | None
    reapply_signals: bool | None
    reapply_updates: bool | None
    dry_run: bool | None
    reason: str | None


class BulkOptions(TypedDict, total=False):
    """Keyword arguments of `start_bulk` and `preview_bulk`.

    Attributes:
        signal_name, signal_args: Of action `signal`.
        rate: Runs a second, at most; absent: 20.
        max_runs: Refuse a filter that has more; absent: 10,000.
        idempotency_key: The same key gives the same bulk action.
        reason: For the audit.
    """

    signal_name: str | None
    signal_args: Sequence[Any] | None
    rate: float | None
    max_runs: int | None
    idempotency_key: str | None
    reason: str | None


class StepFilters(TypedDict, total=False):
    """Filters of `failed_steps` and `iter_failed_steps`; all given ones must hold.

    Attributes:
        status: One or several; `scheduled` and `started` are being retried.
        error_text: Words of the message.
        failure: Fingerprint of a group that `failures` told.
        failed_after, failed_before: Aware datetimes.
        limit: Steps of a page, at most 500.
        cursor: `next_cursor` of the page before.
    """

    workflow_type: str | None
    name: str | None
    status: StepStatus | str | Sequence[StepStatus | str] | None
    min_attempts: int | None
    error_type: str | None
    error_text: str | None
    failure: UUID | str | None
    failed_after: datetime | None
    failed_before: datetime | None
    limit: int | None
    cursor: str | None


class FailureFilters(TypedDict, total=False):
    """Filters of `failures`.

    Attributes:
        window: Seconds or timedelta back from now; absent: a day.
        name: Of the step.
        limit: Groups, at most 200.
    """

    window: Duration | None
    workflow_type: str | None
    name: str | None
    build_id: str | None
    error_text: str | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Where the API is and how patient the client is.

    Args:
        base_url: For example `http://localhost:8080`.
        api_key: Sent as `X-API-Key`.
        timeout: Seconds for one request, without what the server was asked to wait.
        retries: Further tries of a call that may be repeated.

    Raises:
        InvalidRequest: If `base_url` is not an HTTP URL, a number is out of range, or `api_key`
            has characters that no key has, such as the end of the line that it was read from.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 10.0
    retries: int = 3

    def __post_init__(self) -> None:
        if not _is_http_url(self.base_url):
            raise InvalidRequest(
                f"expected base_url to be an http:// or https:// URL, got {self.base_url!r}",
                field="base_url",
            )
        if self.api_key is not None and not _HEADER_SAFE.match(self.api_key):
            raise InvalidRequest(
                "expected api_key without spaces or line breaks, as `flowtrail keys create` "
                "printed it",
                field="api_key",
            )
        if self.timeout <= 0:
            raise InvalidRequest(f"expected timeout > 0, got {self.timeout!r}", field="timeout")
        if self.retries < 0:
            raise InvalidRequest(f"expected retries >= 0, got {self.retries!r}", field="retries")

    def http_arguments(self) -> dict[str, Any]:
        """Keyword arguments for either of httpx's clients."""
        headers = {"Accept": "application/json", "User-Agent": f"flowtrail-python/{__version__}"}
        if self.api_key is not None:
            headers["X-API-Key"] = self.api_key
        return {
            "base_url": self.base_url.rstrip("/"),
            "headers": headers,
            "timeout": httpx.Timeout(self.timeout),
        }


def seconds(duration: Duration) -> float:
    """A duration as seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


_HEADER_SAFE = re.compile(r"[\x21-\x7e]+\Z")


def _is_http_url(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)
