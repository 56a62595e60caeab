"""What all live connections share: whose changes they may see, and where they begin."""

from __future__ import annotations

from dataclasses import dataclass

from api.auth import Caller
from api.deps import Services
from tracker.feed.entries import Interest
from tracker.feed.feed import Subscription
from tracker.feed.mailbox import Mailbox
from tracker.models.feed import ChangeFilter, Snapshot
from tracker.store.run_detail import get_run
from tracker.store.snapshots import take_snapshot

HEARTBEAT = 15.0
"""Seconds of silence after which a connection is told how far the feed has come."""
AGAIN_AFTER = 0.5
"""Seconds between two tries of what the database does not answer."""
RECHECK_EVERY = 30.0
"""Seconds between two looks whether a caller may still be connected."""


async def permitted(services: Services, caller: Caller, filters: ChangeFilter) -> ChangeFilter:
    """The filter, kept to what the caller may see; a run in it by our own id.

    Raises:
        NotAllowed: It asks for others.
        NotFound: There is no such run, or none that the caller may see.
    """
    if filters.run_id is None:
        return caller.restriction.runs(filters)
    await caller.restriction.check_run(services.database, services.namespace, filters.run_id)
    run = await get_run(services.database, services.namespace, filters.run_id)
    return filters.model_copy(update={"run_id": run.run_id})


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a subscription begins.

    Attributes:
        snapshot: What to tell first; None where it goes on from a place.
    """

    subscription: Subscription
    snapshot: Snapshot | None


async def begin(
    services: Services, mailbox: Mailbox, filters: ChangeFilter, after: int | None, runs: int
) -> Beginning:
    """A subscription from a place on, or from a snapshot on; it is not in the mailbox yet.

    Args:
        filters: From `permitted`.
        runs: In the snapshot at most.

    Raises:
        TrackerError: The snapshot cannot be taken.
    """
    services.feed.wake()
    interest = Interest(services.namespace, filters)
    if after is not None:
        return Beginning(Subscription(interest, after, mailbox), None)
    taken = await take_snapshot(services.database, services.namespace, filters, runs)
    subscription = Subscription(interest, taken.snapshot.seq, mailbox, taken.shown)
    return Beginning(subscription, taken.snapshot)
