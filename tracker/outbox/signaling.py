"""One try of an accepted signal, from the entry to what is stored of its outcome.

Once per run: every try sends the same request id, and Temporal takes a repeated one without a
second event. A run that continues as new starts afresh there too, so a signal whose answer was lost
just then may arrive in both runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tracker.outbox.burying import bury
from tracker.outbox.starting import Poison, Refused, Retry, Starter
from tracker.store import outbox
from tracker.store.database import Database
from tracker.store.outbox import LeasedSignal


@dataclass(frozen=True, slots=True)
class Delivered:
    """Temporal has it in the history of a run."""


SignalOutcome = Delivered | Refused | Retry | Poison


class Signaler(Protocol):
    """Temporal's side of a signal: each call is one bounded try and raises nothing that a network
    or a server can do."""

    async def signal(self, signal: LeasedSignal) -> SignalOutcome:
        """Send it to the current run of its chain."""
        ...


class Carrier(Starter, Signaler, Protocol):
    """All that a relay needs of Temporal (`tracker.temporal.starter.TemporalStarter`)."""

    async def reachable(self) -> bool:
        """Whether Temporal is there, whatever it thinks of single calls; soon answered."""
        ...


async def try_signal(database: Database, signaler: Signaler, signal: LeasedSignal) -> SignalOutcome:
    """Try a signal that the caller has leased, and store the outcome.

    Raises:
        TrackerError: The outcome could not be stored; the entry stays, to be tried again.
    """
    outcome = await signaler.signal(signal)
    match outcome:
        case Delivered():
            await outbox.deliver(database, signal)
        case Retry():
            await outbox.put_back(database, signal, str(outcome.error))
        case Refused():
            await bury(database, signal, f"{outcome.code}: {outcome.message}")
        case Poison():
            await bury(database, signal, outcome.message)
    return outcome
