"""Runs that are asked for while something breaks: which were accepted, how many are in flight, and
what became of them.

A caller here does what a caller should: it asks again, with the same idempotency key, until it has
an answer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from tests.faults.site import QUEUE, Site
from tests.faults.workload import Job, Note, read_ledger, result_of
from tests.waiting import eventually
from tracker.errors import TrackerError
from tracker.outbox import start_in_transaction

PATIENCE = 60.0
"""Seconds for everything asked for to be accepted, or to close."""
FREE = 100
"""Numbers from here on are of runs that nothing holds."""
_loads = itertools.count()


@dataclass(frozen=True)
class Accepted:
    """A start that we were told is accepted."""

    number: int
    run_id: UUID

    @property
    def workflow_id(self) -> str:
        """As the encoder makes it."""
        return f"FaultRun/{self.run_id}"


@dataclass
class Load:
    """Starts through the API and in transactions, in turn.

    Attributes:
        gate: File that lets held runs go on.
        accepted: All that we were told are accepted.
        held: Those of them that the gate holds.
        over_http: Whether the API is asked at all.
        begun_at: None of its runs is older.
    """

    site: Site
    over_http: bool = True
    begun_at: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(seconds=5))
    accepted: list[Accepted] = field(default_factory=list[Accepted])
    held: tuple[Accepted, ...] = ()
    _asked: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(FREE))

    def __post_init__(self) -> None:
        self.folder = self.site.folder / f"load-{next(_loads)}"
        self.folder.mkdir(parents=True)
        self.gate = self.folder / "gate"

    async def begin(self, count: int) -> None:
        """Start runs, and wait until the gate holds every one of them in a step that is on record:
        a fault is to hit runs in flight."""
        await asyncio.gather(*(self._ask(n, held=True) for n in range(count)))
        self.held = tuple(self.accepted)
        await eventually(lambda: self._held() == count, PATIENCE)

        async def on_record() -> bool:
            [row] = await self.recorded(
                "SELECT count(*) AS n FROM flowtrail.attempt a"
                " JOIN flowtrail.step s ON s.id = a.step_id"
                " JOIN flowtrail.run r ON r.namespace = s.namespace AND r.run_key = s.run_key"
                " WHERE s.name = 'hold' AND r.id = ANY(%s)"
            )
            return row["n"] >= count

        await eventually(on_record, PATIENCE)

    def ask(self, count: int, *, in_transactions: bool = True) -> None:
        """Begin to ask for further runs, which nothing holds.

        Args:
            in_transactions: Every third in a transaction; else all through the API.
        """
        numbers = (n for n in self._numbers if in_transactions or not _is_for_transaction(n))
        for number in itertools.islice(numbers, count):
            self._asked.add(asyncio.create_task(self._ask(number, held=False)))

    async def all_accepted(self) -> None:
        """Wait until all that was asked for is accepted."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._asked)

    async def cancel(self) -> None:
        """Ask for nothing more."""
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)

    def release(self) -> None:
        """Open the gate."""
        self.gate.touch()

    def notes(self) -> list[Note]:
        """What attempts noted of themselves."""
        return read_ledger(self.folder)

    async def in_flight(self) -> int:
        """Runs that Temporal holds open at this moment."""
        found = await asyncio.gather(*(self._is_open(start) for start in self.accepted))
        return sum(found)

    async def closed(self) -> None:
        """Wait until all accepted runs have closed in Temporal."""
        await self._closed(self.accepted)

    async def held_closed(self) -> None:
        """Wait until those that the gate held have."""
        await self._closed(self.held)

    async def recorded(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query whose one parameter is the ids of the accepted runs."""
        return await self.site.rows(query, [start.run_id for start in self.accepted])

    async def wrong_results(self) -> list[str]:
        """Runs that ended otherwise than their number says, in words."""
        found = await asyncio.gather(*(self._judge(start) for start in self.accepted))
        return [wrong for wrong in found if wrong]

    async def _closed(self, starts: Sequence[Accepted]) -> None:
        async def none_open() -> bool:
            return not any([await self._is_open(start) for start in starts])

        await eventually(none_open, PATIENCE)

    def _held(self) -> int:
        return len({note.run_key for note in self.notes() if note.step == "hold"})

    async def _ask(self, number: int, held: bool) -> None:
        http = self.over_http and not _is_for_transaction(number)
        ask = self._over_http if http else self._in_transaction
        job = Job(number, str(self.folder), str(self.gate) if held else "")
        key = f"{self.folder.name}-{number}"
        while True:
            try:
                run_id = await ask(job, key)
                break
            except (TrackerError, psycopg.Error):
                await asyncio.sleep(0.1)
        self.accepted.append(Accepted(number, run_id))

    async def _over_http(self, job: Job, key: str) -> UUID:
        started = await self.site.http.start_workflow(
            "FaultRun",
            vars(job),
            ref=f"fault/{key}",
            metadata={"number": job.number},
            idempotency_key=key,
            task_queue=QUEUE,
        )
        return started.run_id

    async def _in_transaction(self, job: Job, key: str) -> UUID:
        def commit() -> UUID:
            with psycopg.connect(self.site.dsn, connect_timeout=2) as connection:
                return start_in_transaction(
                    connection,
                    self.site.encoder,
                    "FaultRun",
                    vars(job),
                    ref_type="fault",
                    ref_id=key,
                    metadata={"number": job.number},
                    idempotency_key=key,
                )

        return await asyncio.to_thread(commit)

    async def _is_open(self, start: Accepted) -> bool:
        """Whether Temporal has yet to close it; what it has not begun is not in flight there."""
        handle = self.site.client.get_workflow_handle(start.workflow_id)
        try:
            return (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        except RPCError as error:
            raise AssertionError(f"not there: {error}") from error

    async def _judge(self, start: Accepted) -> str | None:
        expected = result_of(start.number)
        handle = self.site.client.get_workflow_handle(start.workflow_id)
        try:
            result = await handle.result()
        except WorkflowFailureError as error:
            told = str(error.cause)
            good = expected is None and f"gave up {start.number}" in told
            return None if good else f"run {start.number} failed: {told}"
        return None if result == expected else f"run {start.number} returned {result}"


Blow = Callable[[Load], Awaitable[None]]


def _is_for_transaction(number: int) -> bool:
    return number % 3 == 2
