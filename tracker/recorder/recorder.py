"""The recorder: events in, rows out.

`record` is synchronous, callable from any thread and never blocks or raises. One task on the loop
that started the recorder commits in groups: at once when somebody waits, else after a short linger.
What a reader gets wrong: a database that is away is not retried batch by batch; its batches go to
the spill file and come back when it answers, so memory stays flat and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Sequence

from tracker.core.events import TrackerEvent
from tracker.errors import FatalError
from tracker.recorder.counters import RecorderCounters
from tracker.recorder.options import RecorderOptions
from tracker.recorder.spill import RecordTooLarge, Spill, SpillFull, SpillReader
from tracker.store.batch_writer import BatchRefused, Unavailable, Writer, encode_events

logger = logging.getLogger(__name__)

_STOP_PATIENCE = 5.0
"""Seconds that `stop` gives the database before what is left goes to the spill file."""

_Entry = TrackerEvent | asyncio.Future[None]


class Recorder:
    """Gets events into Postgres.

    Use `start` and `stop` on one event loop; `record` from anywhere.
    """

    def __init__(self, options: RecorderOptions) -> None:
        self.options = options
        self.counters = RecorderCounters()
        self._writer = Writer(options.database)
        self._spill = Spill(options.spill_dir, options.spill_limit)
        self._entries: deque[_Entry] = deque()
        self._in_flight: list[_Entry] = []
        self._wake = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._trusts_flushes = True
        self._alarm: asyncio.TimerHandle | None = None
        self._pause = 0.0
        self._warned: set[str] = set()

    async def start(self) -> None:
        """Begin to write. The database need not be there."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._task = asyncio.create_task(self._run(), name="flowtrail-recorder")

    async def stop(self) -> None:
        """Write what is left, or spill it; events recorded later are counted as dropped."""
        self._stop_asked.set()
        self._wake.set()
        try:
            if self._task is not None:
                await self._end(self._task)
        finally:
            # Also when somebody in a hurry cancels this.
            self._loop = None
            self._clear_alarm()
            self._spill_events(self._in_flight)
            self._spill_events(self._take(len(self._entries)))
            self._spill.close()
            await self._writer.close()

    async def _end(self, task: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait({task}, timeout=_STOP_PATIENCE)
        finally:
            task.cancel()
        await asyncio.wait({task}, timeout=_STOP_PATIENCE)

    @property
    def waiting(self) -> int:
        """Events in memory that are not written yet."""
        return len(self._entries)

    @property
    def spilled_bytes(self) -> int:
        """Bytes in this process's spill file."""
        return self._spill.size

    def record(self, event: TrackerEvent) -> None:
        """Take in an event. Never blocks, never raises; callable from any thread."""
        loop = self._loop
        if loop is None or len(self._entries) >= self.options.buffer_limit:
            self.counters.dropped += 1
            return
        self._entries.append(event)
        if self._alarm is not None or self._wake.is_set():
            return
        if threading.get_ident() == self._loop_thread:
            self._set_alarm()
        else:
            with contextlib.suppress(RuntimeError):  # The loop closed: `stop` has the event.
                loop.call_soon_threadsafe(self._set_alarm)

    async def settle(self, budget: float) -> None:
        """Wait until what was recorded so far is in the database, but not long.

        Returns at once in buffered mode, and after a wait that was in vain until a flush succeeds.

        Args:
            budget: Seconds; capped by `max_wait`.
        """
        if self.options.durability == "buffered" or not self._trusts_flushes:
            return
        loop, wait = self._loop, min(budget, self.options.max_wait)
        if loop is None or wait <= 0 or loop is not asyncio.get_running_loop():
            return
        settled: asyncio.Future[None] = loop.create_future()
        self._entries.append(settled)
        self._wake.set()
        done, _ = await asyncio.wait({settled}, timeout=wait)
        if not done:
            self.counters.timeouts += 1
            self._trusts_flushes = False
            settled.cancel()

    async def _run(self) -> None:
        # A dead process of this machine may have left something to write.
        await self._recover()
        while self._entries or not self._stop_asked.is_set():
            try:
                await self._next_round()
            except Exception:
                # A dead task would leave every activity waiting for its budget, for ever.
                logger.exception("recorder round failed", extra={"event": "recorder.failed"})
                self._spill_events(self._in_flight)
                self._in_flight = []
                await asyncio.sleep(0.1)

    async def _next_round(self) -> None:
        if self._pause:
            await self._sleep_unless_stopped(self._pause)
            if not await self._recover():
                self._spill_events(self._take(len(self._entries)))
            return
        await self._wake.wait()
        self._wake.clear()
        self._clear_alarm()
        # Whoever ends this in the middle finds there what is neither waiting nor written.
        self._in_flight = self._take(self.options.max_batch)
        await self._flush(self._in_flight)
        self._in_flight = []
        if len(self._entries) >= self.options.max_batch or self._stop_asked.is_set():
            self._wake.set()
        elif self._entries:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is None and self._loop is not None:
            self._alarm = self._loop.call_later(self.options.linger, self._wake.set)

    def _clear_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def _sleep_unless_stopped(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_asked.wait()

    def _take(self, most: int) -> list[_Entry]:
        entries = self._entries
        taken = [entries.popleft() for _ in range(min(most, len(entries)))]
        self.counters.recorded += sum(not isinstance(entry, asyncio.Future) for entry in taken)
        return taken

    async def _flush(self, entries: Sequence[_Entry]) -> None:
        events = [entry for entry in entries if not isinstance(entry, asyncio.Future)]
        try:
            if events:
                await self._write(events)
                self.counters.flushes += 1
        except Unavailable as error:
            self._on_unavailable(error)
            self._spill_events(entries)
            return
        self._trusts_flushes = True
        _release(entries)

    async def _write(self, events: Sequence[TrackerEvent]) -> None:
        """Write events; of a batch that is refused, find the event that is to blame."""
        try:
            await self._writer.write(encode_events(events))
            self.counters.written += len(events)
        except BatchRefused as error:
            if len(events) == 1:
                self._on_poison(events[0], error)
                return
            middle = len(events) // 2
            await self._write(events[:middle])
            await self._write(events[middle:])

    def _on_poison(self, event: TrackerEvent, error: BatchRefused) -> None:
        self.counters.poisoned += 1
        logger.error(
            "the database refuses a %s event, dropped: %s",
            type(event).__name__,
            error,
            extra={"event": "recorder.poisoned"},
        )

    def _on_unavailable(self, error: Unavailable) -> None:
        self.counters.failures += 1
        self._trusts_flushes = False
        longest = self.options.retry_after
        self._pause = min(longest, max(0.1, self._pause * 2)) * random.uniform(0.8, 1.0)
        kind = type(error.reason).__name__
        if kind not in self._warned:
            self._warned.add(kind)
            level = logging.ERROR if isinstance(error.reason, FatalError) else logging.WARNING
            logger.log(
                level,
                "cannot write tracker events, spilling to %s: %s",
                self.options.spill_dir,
                error.reason,
                extra={"event": "recorder.unavailable"},
            )

    async def _recover(self) -> bool:
        """Whether the database takes batches again: tried with what waits on disk."""
        try:
            await self._writer.probe()
            await self._restore()
        except Unavailable as error:
            self._on_unavailable(error)
            return False
        except OSError as error:
            # What the disk does not give back now must not keep new events from the database.
            self._warn_once("disk", "cannot read spilled tracker events: %s", error)
        self._pause = 0.0
        self._wake.set()
        if self._warned:
            self._warned.clear()
            logger.info("tracker events are written again", extra={"event": "recorder.recovered"})
        return True

    async def _restore(self) -> None:
        for reader in self._spill.waiting():
            await self._restore_file(reader)

    async def _restore_file(self, reader: SpillReader) -> None:
        try:
            for record in reader.records():
                self.counters.poisoned += await self._writer.write_row_by_row_if_refused(record)
                self.counters.restored += 1
        except BaseException:
            reader.keep()
            raise
        reader.done()

    def _spill_events(self, entries: Sequence[_Entry]) -> None:
        """Keep events on disk; whoever waits for them need not wait any longer."""
        events = [entry for entry in entries if not isinstance(entry, asyncio.Future)]
        for start in range(0, len(events), self.options.max_batch):
            self._spill_batch(events[start : start + self.options.max_batch])
        _release(entries)

    def _spill_batch(self, events: Sequence[TrackerEvent]) -> None:
        try:
            self._spill.append(encode_events(events))
            self.counters.spilled += len(events)
        except BatchRefused as error:
            if len(events) == 1:
                self._on_poison(events[0], error)
                return
            for event in events:
                self._spill_batch([event])
        except SpillFull as error:
            if isinstance(error, RecordTooLarge) and len(events) > 1:
                middle = len(events) // 2
                self._spill_batch(events[:middle])
                self._spill_batch(events[middle:])
                return
            self.counters.dropped += len(events)
            lost = self.counters.dropped
            self._warn_once("full", "tracker events are lost, %d so far: %s", lost, error)

    def _warn_once(self, trouble: str, message: str, *arguments: object) -> None:
        if trouble not in self._warned:
            self._warned.add(trouble)
            logger.error(message, *arguments, extra={"event": f"recorder.{trouble}"})


def _release(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        if isinstance(entry, asyncio.Future) and not entry.done():
            entry.set_result(None)
