"""One recorder per event loop and set of options, shared by all workers that run on it.

Per loop, because a recorder's connection and waits belong to one loop; a process with one loop, the
usual case, has one recorder however many workers it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from temporalio.common import MetricMeter

from tracker.recorder.options import RecorderOptions
from tracker.recorder.recorder import Recorder
from tracker.temporal.metrics import report
from tracker.temporal.recorder_reports import report_to_tables


@dataclass(slots=True)
class _Shared:
    recorder: Recorder
    reports: tuple[asyncio.Task[None], ...]
    users: int = 0


@asynccontextmanager
async def shared_recorder(options: RecorderOptions, meter: MetricMeter) -> AsyncGenerator[Recorder]:
    """A started recorder; the last user to leave stops it, which writes or spills what it holds."""
    key = (asyncio.get_running_loop(), options)
    shared = _recorders.get(key)
    if shared is None:
        recorder = Recorder(options)
        await recorder.start()
        reports = (
            asyncio.create_task(report(recorder, meter), name="flowtrail-metrics"),
            asyncio.create_task(report_to_tables(recorder), name="flowtrail-reports"),
        )
        shared = _recorders[key] = _Shared(recorder, reports)
    shared.users += 1
    try:
        yield shared.recorder
    finally:
        shared.users -= 1
        if shared.users == 0:
            del _recorders[key]
            for task in shared.reports:
                task.cancel()
            await shared.recorder.stop()


_recorders: dict[tuple[asyncio.AbstractEventLoop, RecorderOptions], _Shared] = {}
