"""Brings to Temporal what was accepted and not started: after an outage, after an API died between
the two, and what `start_in_transaction` committed.

Any number of relays may run; leases keep them apart. While Temporal is away a relay probes with one
start at a time, so that the others stay due and start at once when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Self

from tracker.errors import TrackerError
from tracker.outbox.starting import Refused, Retry, Started, Starter, Tried, try_start
from tracker.store import outbox
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Args:
    concurrency: Starts under way at once.
    poll: Seconds between two looks at the outbox, unless `wake` is called.
    lease: Seconds for which a start is this relay's; more than one try can take.
    pause_max: Longest pause, in seconds, between two probes of what is away.
    grace: Seconds that starts under way get when the relay stops.
    """

    concurrency: int = 10
    poll: float = 1.0
    lease: float = 30.0
    pause_max: float = 10.0
    grace: float = 5.0


@dataclass(slots=True)
class RelayCounters:
    """Monotonic counts since the relay was made.

    Attributes:
        started: Starts that Temporal runs.
        refused: Starts that it will never run.
        canceled: Starts that were canceled before Temporal knew them.
        put_back: Tries that decided nothing.
        failures: Tries and looks at the outbox that ended in an error of the database.
    """

    started: int = 0
    refused: int = 0
    canceled: int = 0
    put_back: int = 0
    failures: int = 0


class Relay:
    """Runs in the background of `async with Relay(database, namespace, starter):`.

    Args:
        database: Open for as long as the relay.
        namespace: Temporal namespace whose starts it takes.
        starter: Reaches that namespace.
    """

    def __init__(
        self,
        database: Database,
        namespace: str,
        starter: Starter,
        options: RelayOptions | None = None,
    ) -> None:
        self.options = options or RelayOptions()
        self.counters = RelayCounters()
        self._database = database
        self._namespace = namespace
        self._starter = starter
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self._pause = _Pause(self.options.pause_max)

    def wake(self) -> None:
        """Look at the outbox now: something was put there."""
        self._wake.set()

    async def __aenter__(self) -> Self:
        self._loop_task = asyncio.create_task(self._run(), name="flowtrail-relay")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take nothing more, let what is under way end; leases end by themselves."""
        self._stopping.set()
        self._wake.set()
        ending = set(self._under_way)
        if self._loop_task is not None:
            ending.add(self._loop_task)
        _done, late = await asyncio.wait(ending, timeout=self.options.grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                more = await self._take()
            except TrackerError as error:
                self._failed("the outbox cannot be read", error)
                more = False
            except Exception:
                # A dead loop would leave accepted starts lying for ever.
                logger.exception("relay round failed", extra={"event": "relay.failed"})
                self._pause.extend()
                more = False
            if not more:
                await self._rest()

    async def _take(self) -> bool:
        """Begin what is due, as far as there is room; whether there may be more to begin now."""
        room = self.options.concurrency - len(self._under_way)
        if self._pause.seconds:
            room = min(room, 1)
        if room <= 0:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            return True
        self._wake.clear()
        taken = await outbox.lease(
            self._database, self._namespace, limit=room, seconds=self.options.lease
        )
        for start in taken:
            task = asyncio.create_task(self._try(start))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        if self._pause.seconds and taken:
            await asyncio.wait(self._under_way)
        return len(taken) == room and not self._pause.seconds

    async def _rest(self) -> None:
        """Until the next look: a poll interval, less if woken; a pause is never shortened."""
        if self._pause.seconds:
            await _until(self._stopping, self._pause.seconds)
        else:
            await _until(self._wake, self.options.poll)

    async def _try(self, start: LeasedStart) -> None:
        try:
            tried = await try_start(self._database, self._starter, start)
        except TrackerError as error:
            self._failed(f"the outcome of start {start.id} cannot be stored", error)
        except Exception:
            logger.exception(
                "start %s failed", start.id, extra={"event": "relay.failed", "run_id": start.id}
            )
            self.counters.failures += 1
        else:
            self._count(tried)

    def _count(self, tried: Tried) -> None:
        counters = self.counters
        match tried.outcome:
            case Retry():
                counters.put_back += 1
                self._pause.extend()
                return
            case Started():
                counters.started += 1
            case Refused():
                counters.refused += 1
            case None:
                counters.canceled += 1
        self._pause.end()

    def _failed(self, what: str, error: TrackerError) -> None:
        self.counters.failures += 1
        if not self._pause.seconds:
            logger.warning("%s: %s", what, error, extra={"event": "relay.unavailable"})
        self._pause.extend()


class _Pause:
    """Doubles with each failed probe, however many starts failed in the same one."""

    def __init__(self, longest: float) -> None:
        self.seconds = 0.0
        self._longest = longest
        self._ends_at = 0.0

    def extend(self) -> None:
        now = time.monotonic()
        if now < self._ends_at:
            return
        self.seconds = min(self._longest, max(0.25, self.seconds * 2))
        self._ends_at = now + self.seconds

    def end(self) -> None:
        self.seconds = self._ends_at = 0.0


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
