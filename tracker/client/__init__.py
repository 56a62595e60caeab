"""Client SDK over HTTP: start workflows by reference, read runs, wait for results, control runs.

`TrackerClient` blocks, `AsyncTrackerClient` does not; they take the same arguments. Needs the base
requirements alone: no Temporal, no database driver.
"""

from tracker.client.async_client import AsyncTrackerClient
from tracker.client.options import (
    UNSET,
    AuditFilters,
    BulkOptions,
    FailureFilters,
    ReportOptions,
    ResetOptions,
    ResultOptions,
    RunFilters,
    StartOptions,
    StepFilters,
    StepReportOptions,
    WatchOptions,
    WorkflowFilters,
)
from tracker.client.sync_client import TrackerClient

__all__ = [
    "UNSET",
    "AsyncTrackerClient",
    "AuditFilters",
    "BulkOptions",
    "FailureFilters",
    "ReportOptions",
    "ResetOptions",
    "ResultOptions",
    "RunFilters",
    "StartOptions",
    "StepFilters",
    "StepReportOptions",
    "TrackerClient",
    "WatchOptions",
    "WorkflowFilters",
]
