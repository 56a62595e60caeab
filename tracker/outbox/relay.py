"""Brings to Temporal what was accepted and not confirmed: after an outage, after an API died in
between, and what `start_in_transaction` and `signal_in_transaction` committed.

Any number of relays may run; leases keep them apart. While Temporal is away a relay probes with one
entry at a time, so that the others stay due and go out at once when it is back. An entry that
Temporal cannot take although it is there is that entry's own trouble: the others only wait shortly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Self

from tracker.errors import ConfigurationError, SchemaMismatch, TrackerError, TransientError
from tracker.outbox import burying
from tracker.outbox.signaling import Carrier, Delivered, SignalOutcome, try_signal
from tracker.outbox.starting import Outcome, Poison, Refused, Retry, Started, try_start
from tracker.store import outbox
from tracker.store.database import Database
from tracker.store.outbox import Leased

logger = logging.getLogger(__name__)

SHORT_PAUSE = 0.25
"""Seconds of the first pause, and of one for an entry that Temporal cannot take though it is there.
"""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Args:
    concurrency: Entries under way at once.
    poll: Seconds between two looks at the outbox, unless `wake` is called.
    lease: Seconds for which an entry is this relay's; more than one try can take.
    pause_max: Longest pause, in seconds, between two probes of what is away.
    grace: Seconds that entries under way get when the relay stops.
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
        signaled: Signals that Temporal has.
        dead: Entries that were given up: broken ones, and signals that Temporal refused for good.
        put_back: Tries that decided nothing.
        failures: Tries and looks at the outbox that ended in an error of the database, or in one
            that nobody expected.
    """

    started: int = 0
    refused: int = 0
    canceled: int = 0
    signaled: int = 0
    dead: int = 0
    put_back: int = 0
    failures: int = 0


class Relay:
    """Runs in the background of `async with Relay(database, namespace, starter):`.

    Args:
        database: Open for as long as the relay.
        namespace: Temporal namespace whose starts and signals it takes.
        carrier: Reaches that namespace.
    """

    def __init__(
        self,
        database: Database,
        namespace: str,
        carrier: Carrier,
        options: RelayOptions | None = None,
    ) -> None:
        self.options = options or RelayOptions()
        self.counters = RelayCounters()
        self._database = database
        self._namespace = namespace
        self._carrier = carrier
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
                # A dead loop would leave what was accepted lying for ever.
                logger.exception("relay round failed", extra={"event": "relay.failed"})
                self._pause.extend()
                more = False
            if not more:
                await self._rest()

    async def _take(self) -> bool:
        """Begin what is due, as far as there is room; whether there may be more to begin now."""
        room = self.options.concurrency - len(self._under_way)
        if self._pause.probing:
            room = min(room, 1)
        if room <= 0:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            return True
        self._wake.clear()
        taken = await outbox.lease(
            self._database, self._namespace, limit=room, seconds=self.options.lease
        )
        if not taken:
            # Nothing is left to probe with: what comes next shall not wait for a long pause.
            self._pause.end()
        for entry in taken:
            task = asyncio.create_task(self._try(entry))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        if self._pause.probing and taken:
            await asyncio.wait(self._under_way)
        return len(taken) == room and not self._pause.seconds

    async def _rest(self) -> None:
        """Until the next look: a poll interval, less if woken; a pause is never shortened."""
        if self._pause.seconds:
            await _until(self._stopping, self._pause.seconds)
            self._pause.over()
        else:
            await _until(self._wake, self.options.poll)

    async def _try(self, entry: Leased) -> None:
        try:
            outcome = await self._outcome(entry)
            if isinstance(outcome, Retry) and await self._carrier.reachable():
                self._pause.rest()
            elif isinstance(outcome, Retry):
                self._pause.extend()
            self._count(entry, outcome)
        except (TransientError, ConfigurationError, SchemaMismatch) as error:
            self._failed(f"the outcome of {entry.kind} {entry.id} cannot be stored", error)
        except Exception as error:
            logger.exception(
                "%s %s failed",
                entry.kind,
                entry.id,
                extra={"event": "relay.failed", "entry_id": str(entry.id)},
            )
            self.counters.failures += 1
            await self._suspect(entry, error)

    async def _outcome(self, entry: Leased) -> Outcome | SignalOutcome | None:
        if entry.kind == "signal":
            return await try_signal(self._database, self._carrier, entry)
        return (await try_start(self._database, self._carrier, entry)).outcome

    async def _suspect(self, entry: Leased, error: Exception) -> None:
        """It may be this entry that is poison: it must not come back for ever."""
        try:
            if await burying.fail(self._database, entry, error):
                self.counters.dead += 1
        except TrackerError as unstored:
            self._failed(f"the failure of {entry.kind} {entry.id} cannot be stored", unstored)

    def _count(self, entry: Leased, outcome: Outcome | SignalOutcome | None) -> None:
        counters = self.counters
        match outcome:
            case Retry():
                counters.put_back += 1
                return
            case Started():
                counters.started += 1
            case Delivered():
                counters.signaled += 1
            case Refused() if entry.kind == "start":
                counters.refused += 1
            case Refused() | Poison():
                counters.dead += 1
            case None:
                counters.canceled += 1
        self._pause.end()
        # Signals may have waited for this one.
        self.wake()

    def _failed(self, what: str, error: TrackerError) -> None:
        self.counters.failures += 1
        if not self._pause.seconds:
            logger.warning("%s: %s", what, error, extra={"event": "relay.unavailable"})
        self._pause.extend()


class _Pause:
    """Doubles with each failed probe, however many starts failed in the same one.

    Attributes:
        probing: Whether something is away, so that one entry at a time is enough.
    """

    def __init__(self, longest: float) -> None:
        self.seconds = 0.0
        self.probing = False
        self._longest = longest
        self._ends_at = 0.0

    def extend(self) -> None:
        now = time.monotonic()
        if now < self._ends_at:
            return
        self.seconds = min(self._longest, max(SHORT_PAUSE, self.seconds * 2))
        self._ends_at = now + self.seconds
        self.probing = True

    def rest(self) -> None:
        """Once and shortly: what is wrong is not that something is away."""
        self.seconds = min(self._longest, SHORT_PAUSE)
        self._ends_at = 0.0
        self.probing = False

    def end(self) -> None:
        """Of what is away; a short rest is left to the loop."""
        if self.probing:
            self.seconds = self._ends_at = 0.0
            self.probing = False

    def over(self) -> None:
        """The loop has rested."""
        if not self.probing:
            self.seconds = 0.0


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
