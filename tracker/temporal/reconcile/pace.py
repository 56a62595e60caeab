"""How hard a reconciler works, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReconcilerOptions:
    """Args:
    interval: Seconds between two rounds.
    overlap: Seconds by which a round looks back behind the latest start and close that it saw: as
        late as visibility may tell of one.
    concurrency: Histories fetched, or runs described, at once.
    quiet: Seconds that a run may be open before the reconciler looks after it, and between two
        such looks.
    budget: Open runs looked after in one round.
    questions: Workers asked in one round what their workflows can be told.
    sweep: Seconds between two looks for runs whose history is gone or will be soon.
    changes_kept: Seconds for which changes of the live feed are kept, where no API process sees to
        that; as the API has it.
    tries: Rounds after which a run that cannot be projected holds up nothing any more.
    """

    interval: float = 2.0
    overlap: float = 30.0
    concurrency: int = 4
    quiet: float = 30.0
    budget: int = 50
    questions: int = 2
    sweep: float = 300.0
    changes_kept: float = 86_400.0
    tries: int = 5


@dataclass(slots=True)
class ReconcilerCounters:
    """Monotonic counts since the reconciler was made.

    Attributes:
        rounds: Completed rounds; stands still in those who wait for the lock.
        projected: Runs projected.
        lost: Runs closed as lost.
        unverifiable: Runs whose history was gone before it confirmed their close.
        failures: Runs that could not be projected, each try counted, and broken rounds.
    """

    rounds: int = 0
    projected: int = 0
    lost: int = 0
    unverifiable: int = 0
    failures: int = 0
