"""What recorders spill and lose shows in the tables."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.factories import ARun
from tests.waiting import eventually
from tracker.recorder.options import RecorderOptions
from tracker.recorder.recorder import Recorder
from tracker.store.database import Database, DatabaseOptions
from tracker.store.stats import read_stats
from tracker.temporal.recorder_reports import report_to_tables


async def test_reports_reach_the_stats_and_outlive_an_outage(database: str, tmp_path: Path) -> None:
    options = DatabaseOptions(database)
    recorder = Recorder(RecorderOptions(options, spill_dir=tmp_path))
    await recorder.start()
    recorder.counters.dropped = 3
    report = asyncio.create_task(report_to_tables(recorder, 0.02))
    try:
        async with Database(options, max_connections=1) as store:

            async def told(dropped: int) -> bool:
                stats = (await read_stats(store, "default")).recorders
                return (stats.alive, stats.dropped) == (1, dropped)

            await eventually(lambda: told(3))
            async with store.connection() as connection:
                await connection.execute("ALTER TABLE flowtrail.recorder RENAME TO away")
                await asyncio.sleep(0.1)
                await connection.execute("ALTER TABLE flowtrail.away RENAME TO recorder")
            recorder.counters.dropped = 5
            recorder.record(ARun().started())
            await eventually(lambda: told(5))
    finally:
        report.cancel()
        await recorder.stop()
