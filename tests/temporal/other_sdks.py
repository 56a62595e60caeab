"""Histories as the SDKs for Go and Java make them, with local activities: one that succeeds, one
that fails, is tried again after a timer, and succeeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.history.v1 import History, HistoryEvent

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BACKOFF = timedelta(seconds=20)
Details = Callable[[str, int, datetime, timedelta | None, Any], dict[str, Any]]


def go_details(
    type_: str, attempt: int, at: datetime, backoff: timedelta | None, result: Any
) -> dict[str, Any]:
    data = {
        "ActivityID": "1",
        "ActivityType": type_,
        "ReplayTime": at.isoformat().replace("+00:00", "") + ".123456789Z",
        "Attempt": attempt,
        "Backoff": 0 if backoff is None else int(backoff.total_seconds() * 1_000_000_000),
    }
    return {"data": data} | ({} if result is None else {"result": result})


def java_details(
    type_: str, attempt: int, at: datetime, backoff: timedelta | None, result: Any
) -> dict[str, Any]:
    meta: dict[str, Any] = {"firstSkd": int(BEGIN.timestamp() * 1000), "atpt": attempt}
    if backoff is not None:
        meta["backoff"] = int(backoff.total_seconds() * 1000)
    told = {
        "activityId": str(uuid4()),
        "type": type_,
        "time": int(at.timestamp() * 1000),
        "meta": meta,
        "input": {"sku": "s-1"},
    }
    return told | ({} if result is None else {"result": result})


def a_history(details: Details, *, tells_workflow_id: bool = True) -> History:
    """A run of type `Checkout` that has completed."""
    events: list[HistoryEvent] = []

    def add(type_: str, at: datetime = BEGIN) -> HistoryEvent:
        stamp = Timestamp()
        stamp.FromDatetime(at)
        number = len(events) + 1
        event = HistoryEvent(
            event_id=number, event_type=EventType.Value(f"EVENT_TYPE_{type_}"), event_time=stamp
        )
        events.append(event)
        return event

    def task(at: datetime) -> int:
        add("WORKFLOW_TASK_SCHEDULED", at)
        add("WORKFLOW_TASK_STARTED", at)
        return add("WORKFLOW_TASK_COMPLETED", at).event_id

    def marker(task_id: int, at: datetime, *told: Any, failure: Failure | None = None) -> None:
        attributes = add("MARKER_RECORDED", at).marker_recorded_event_attributes
        attributes.marker_name = "LocalActivity"
        attributes.workflow_task_completed_event_id = task_id
        for name, value in details(*told).items():
            attributes.details[name].CopyFrom(Payloads(payloads=[json_payload(value)]))
        if failure is not None:
            attributes.failure.CopyFrom(failure)

    started = add("WORKFLOW_EXECUTION_STARTED").workflow_execution_started_event_attributes
    started.workflow_type.name = "Checkout"
    started.original_execution_run_id = started.first_execution_run_id = str(uuid4())
    started.task_queue.name = "checkout"
    if tells_workflow_id:
        started.workflow_id = "checkout-1"
    first, later = BEGIN + timedelta(seconds=1), BEGIN + timedelta(seconds=22)
    task_id = task(first)
    marker(task_id, first, "reserve", 1, first, None, {"ok": True})
    refused = Failure(message="refused", application_failure_info=ApplicationFailureInfo(type="No"))
    marker(task_id, first, "charge", 1, first, BACKOFF, None, failure=refused)
    timer = add("TIMER_STARTED", first).timer_started_event_attributes
    timer.timer_id = "1"
    timer.start_to_fire_timeout.FromTimedelta(BACKOFF)
    timer.workflow_task_completed_event_id = task_id
    timer_event = len(events)
    fired = add("TIMER_FIRED", later).timer_fired_event_attributes
    fired.timer_id, fired.started_event_id = "1", timer_event
    task_id = task(later)
    marker(task_id, later, "charge", 2, later, None, "paid")
    done = add("WORKFLOW_EXECUTION_COMPLETED", later)
    done.workflow_execution_completed_event_attributes.workflow_task_completed_event_id = task_id
    return History(events=events)


def json_payload(value: Any) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())
