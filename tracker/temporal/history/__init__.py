"""Temporal's history as the source of truth: a pure projection to tracker events.

    clear = await clear_payloads(events, codec, …)   # only with a payload codec
    record(project(events, …, clear=clear))

Start reading at `projection.project`; `coverage` names the event types, `rounds` the one hard part.
"""

from __future__ import annotations

from tracker.temporal.history.clear import clear_payloads
from tracker.temporal.history.projection import project
from tracker.temporal.history.runs import RefRules, RunStart
from tracker.temporal.history.state import Clear

__all__ = ["Clear", "RefRules", "RunStart", "clear_payloads", "project"]
