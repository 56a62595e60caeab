"""One try of an accepted start, from the entry to what is stored of its outcome.

The facade runs it for what it just accepted, relays for what is due. Whoever dies in the middle
leaves an entry whose lease ends, and the next one asks Temporal again with the same request id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from tracker.core.events import RunIdentity
from tracker.errors import TransientError
from tracker.outbox.burying import bury
from tracker.store import outbox
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Started:
    """Temporal runs it, or ran it.

    Attributes:
        run_key: Temporal's id of the run that was started; not of a later one of its chain.
        is_open: Whether the chain was open when that was learned.
    """

    run_key: UUID
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """Temporal will never take it.

    Attributes:
        code: CamelCase error type of the run.
        existing: The run that holds the workflow id and that the caller gets instead.
    """

    code: str
    message: str
    existing: RunIdentity | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Nothing is decided; it may even have started."""

    error: TransientError


@dataclass(frozen=True, slots=True)
class Poison:
    """The entry itself is broken: no try can do anything with it."""

    message: str


Outcome = Started | Refused | Retry | Poison


class Starter(Protocol):
    """Temporal's side of a start (`tracker.temporal.starter.TemporalStarter`). Each call is one
    bounded try and raises nothing that a network or a server can do."""

    async def start(self, start: LeasedStart) -> Outcome:
        """Start it, or find that it is started."""
        ...

    async def find(self, start: LeasedStart) -> Started | Retry | Poison | None:
        """Look whether an earlier try has started it."""
        ...

    async def cancel(self, start: LeasedStart, run_key: UUID) -> Retry | None:
        """Ask Temporal to cancel what was started; fine if it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one try.

    Attributes:
        outcome: None: canceled before Temporal knew the run.
        run: The run's row after it, where it changed.
        delay: After `Retry`: seconds until it is due again.
    """

    outcome: Outcome | None
    run: Row | None = None
    delay: float = 0.0


async def try_start(database: Database, starter: Starter, start: LeasedStart) -> Tried:
    """Try a start that the caller has leased, and store the outcome.

    Raises:
        TrackerError: The outcome could not be stored; the entry stays, to be tried again.
    """
    if start.cancel_requested:
        return await _try_cancel(database, starter, start)
    outcome = await starter.start(start)
    match outcome:
        case Started():
            return await _finish(database, starter, start, outcome)
        case Refused():
            return await _refuse(database, start, outcome)
        case Retry():
            return await _put_back(database, start, outcome)
        case Poison():
            await bury(database, start, outcome.message)
            return Tried(outcome)


async def _try_cancel(database: Database, starter: Starter, start: LeasedStart) -> Tried:
    found = await starter.find(start)
    match found:
        case Started():
            return await _finish(database, starter, start, found)
        case Retry():
            return await _put_back(database, start, found)
        case Poison() | None:
            # What cannot be read cannot have been started.
            await outbox.mark_canceled(database, start)
            _log(logging.INFO, "canceled", start, "canceled before it started")
            return Tried(None)


async def _finish(
    database: Database, starter: Starter, start: LeasedStart, started: Started
) -> Tried:
    finished = await outbox.finish(database, start, started.run_key)
    if finished is None:
        return await _finish_foreign(database, start, started)
    if finished.cancel_requested:
        failed = await starter.cancel(start, started.run_key) if started.is_open else None
        if failed is not None:
            return await _put_back(database, start, failed)
        await outbox.discard(database, start)
    return Tried(started, finished.run)


async def _finish_foreign(database: Database, start: LeasedStart, started: Started) -> Tried:
    """Temporal's run is on record under another id (its worker could not read our memo)."""
    other = await outbox.run_of_key(database, start.namespace, started.run_key)
    if other is None or other == start.id:
        await outbox.discard(database, start)
        return Tried(started)
    message = f"recorded as run {other}, by somebody who could not read the memo of this one"
    _log(logging.ERROR, "foreign", start, message)
    run = await outbox.reject(database, start, "MemoUnreadable", message, duplicate_of=other)
    return Tried(Refused("MemoUnreadable", message), run)


async def _refuse(database: Database, start: LeasedStart, refused: Refused) -> Tried:
    _log(logging.WARNING, "refused", start, refused.message)
    other = None if refused.existing is None else await outbox.adopt(database, refused.existing)
    run = await outbox.reject(database, start, refused.code, refused.message, duplicate_of=other)
    return Tried(refused, run)


async def _put_back(database: Database, start: LeasedStart, retry: Retry) -> Tried:
    delay = await outbox.put_back(database, start, str(retry.error))
    _log(logging.INFO, "put_back", start, str(retry.error))
    return Tried(retry, delay=delay)


def _log(level: int, what: str, start: LeasedStart, message: str) -> None:
    logger.log(
        level,
        "start of run %s: %s",
        start.id,
        message,
        extra={"event": f"start.{what}", "run_id": str(start.id)},
    )
