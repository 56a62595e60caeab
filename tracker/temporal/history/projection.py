"""From a Temporal history to tracker events: pure, so it can be run on any history, as often as one
likes, and gives the rows that a run must have.

An open run's history claims nothing about what is still open: live facts stay in force. A closed
one is the verdict, and every step that it leaves open is closed with the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from temporalio.api.history.v1 import HistoryEvent

from tracker.core.events import RunProjected, TrackerEvent
from tracker.core.payloads import PayloadPolicy
from tracker.temporal.history.activities import OpenActivity, tell_asked
from tracker.temporal.history.closes import close_open_steps
from tracker.temporal.history.coverage import HANDLERS
from tracker.temporal.history.local_activities import tell_local_activities
from tracker.temporal.history.operations import tell_unstarted_children
from tracker.temporal.history.runs import RefRules, begin, metadata_verdict, started
from tracker.temporal.history.state import Clear, Projection


def project(
    history: Sequence[HistoryEvent],
    *,
    namespace: str,
    workflow_id: str,
    run_key: UUID,
    policy: PayloadPolicy,
    projected_at: datetime,
    clear: Clear | None = None,
    ref_rules: RefRules | None = None,
) -> list[TrackerEvent]:
    """Tell all that a run's history says, as tracker events whose order means nothing.

    Args:
        history: From its first event on, in order; complete up to some event.
        run_key: The run's id. A reset run's history does not name it.
        policy: Resolved (`PayloadPolicy.resolved`).
        projected_at: The time of the projection, recorded with the run.
        clear: Gives payloads as they were before the codec (`clear_payloads`); None without codec.
        ref_rules: Derives the ref of a run whose memo has none.

    Raises:
        InvalidRequest: If the history does not begin with the run's start.
    """
    projection = begin(
        history,
        run_key,
        namespace=namespace,
        workflow_id=workflow_id,
        policy=policy,
        clear=clear,
        ref_rules=ref_rules,
    )
    for event in history:
        handle = HANDLERS.get(event.event_type)
        if handle is not None:
            handle(projection, event)
    _tell_rest(projection, history, projected_at)
    return projection.events


def _tell_rest(
    projection: Projection, history: Sequence[HistoryEvent], projected_at: datetime
) -> None:
    """What can be told only when all events are known."""
    events, closed, run = projection.events, projection.closed, projection.run
    length = history[-1].event_id
    events.append(started(projection, history[0]))
    events.append(
        RunProjected(run=run, history_length=length, projected_at=projected_at, from_history=True)
    )
    tell_local_activities(projection, history)
    for opened in projection.open_steps.values():
        if isinstance(opened, OpenActivity):
            tell_asked(projection, opened, {})
    if closed is None:
        return
    events.append(closed)
    events.extend(close_open_steps(projection, closed))
    tell_unstarted_children(projection, closed)
    verdict = metadata_verdict(projection)
    if verdict is not None:
        events.append(verdict)
