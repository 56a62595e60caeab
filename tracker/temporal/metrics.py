"""The recorder's counters on Temporal's own metric meter, so that they leave a worker by whatever
exporter its runtime has (Prometheus, OpenTelemetry)."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from temporalio.common import MetricMeter

from tracker.recorder.recorder import Recorder

INTERVAL = 5.0
"""Seconds between two reports."""

EVENTS = {
    "recorded": "Tracker events taken in",
    "written": "Tracker events written to Postgres",
    "spilled": "Tracker events written to the spill file",
    "restored": "Spilled batches written to Postgres later",
    "dropped": "Tracker events lost",
    "poisoned": "Tracker events that Postgres refuses",
    "flushes": "Flushes that succeeded",
    "failures": "Flushes that failed",
    "timeouts": "Steps that did not wait for their flush to the end",
}


async def report(recorder: Recorder, meter: MetricMeter) -> None:
    """Report until canceled, as `flowtrail_events_<what>` and two gauges."""
    counters = {
        what: meter.create_counter(f"flowtrail_events_{what}", text)
        for what, text in EVENTS.items()
    }
    waiting = meter.create_gauge("flowtrail_events_waiting", "Tracker events in memory")
    on_disk = meter.create_gauge("flowtrail_spill_bytes", "Bytes in the spill file", "bytes")
    reported = dict.fromkeys(EVENTS, 0)
    while True:
        await asyncio.sleep(INTERVAL)
        now = asdict(recorder.counters)
        for what, counter in counters.items():
            counter.add(now[what] - reported[what])
        reported = {what: now[what] for what in EVENTS}
        waiting.set(recorder.waiting)
        on_disk.set(recorder.spilled_bytes)
