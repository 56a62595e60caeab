"""Entries that are given up: how they get there, and the two ways out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from tests.starts import NAMESPACE, a_leased_start, accepted, count, encoded, rows, run_row
from tests.store.test_signal_order import accepted_signal
from tracker.core.ids import new_id
from tracker.errors import Conflict, NotFound
from tracker.store import dead_entries, outbox
from tracker.store.database import Database
from tracker.store.dead_entries import FAILURES_MAX, OutboxEntry
from tracker.store.outbox import CancelDecision, LeasedStart


async def a_dead_start(store: Database) -> UUID:
    """Leased to us from the beginning: a relay may be at work beside the test."""
    start = encoded()
    await accepted(store, start, lease=30)
    entry = LeasedStart(
        id=start.id,
        namespace=start.namespace,
        request=start.request,
        on_conflict=start.on_conflict,
        created_at=datetime.now(UTC),
        tries=1,
    )
    assert await dead_entries.bury(store, entry, "broken")
    return start.id


async def a_dead_signal(store: Database) -> UUID:
    entry_id = await accepted_signal(store, new_id())
    [entry] = await outbox.lease(store, NAMESPACE, limit=1, seconds=30)
    assert await dead_entries.bury(store, entry, "refused")
    return entry_id


async def test_a_dead_entry_is_listed_and_not_tried(store: Database) -> None:
    entry_id = await a_dead_signal(store)
    waiting = await accepted_signal(store, new_id())
    [dead] = await dead_entries.list_entries(store, NAMESPACE, dead=True, limit=10)
    assert (dead.id, dead.last_error, dead.due_at) == (entry_id, "refused", None)
    every = await dead_entries.list_entries(store, NAMESPACE, dead=False, limit=10)
    assert [entry.id for entry in every] == [waiting, entry_id]
    assert len(await outbox.lease(store, NAMESPACE, limit=10, seconds=1)) == 1


async def test_a_failure_is_tried_again_but_not_for_ever(store: Database) -> None:
    start = encoded()
    await accepted(store, start)
    for number in range(1, FAILURES_MAX + 1):
        await rows(store, "UPDATE {schema}.outbox SET leased_until = now() RETURNING id")
        entry = await a_leased_start(store)
        assert await dead_entries.fail(store, entry, "KeyError: x") is (number == FAILURES_MAX)
    [dead] = await dead_entries.list_entries(store, NAMESPACE, dead=True, limit=10)
    assert (dead.failures, dead.last_error) == (FAILURES_MAX, "KeyError: x")
    assert (await run_row(store, start.id))["status"] == "accepted"


async def test_who_lost_the_lease_buries_nothing(store: Database) -> None:
    await accepted(store, encoded())
    first = await a_leased_start(store, seconds=0)
    await a_leased_start(store)
    assert not await dead_entries.bury(store, first, "late")
    assert not await dead_entries.fail(store, first, "late")
    assert await dead_entries.list_entries(store, NAMESPACE, dead=True, limit=10) == []


async def test_a_revived_entry_is_due(store: Database) -> None:
    entry_id = await a_dead_start(store)
    await dead_entries.revive(store, NAMESPACE, entry_id)
    entry = await a_leased_start(store)
    assert (entry.id, entry.tries) == (entry_id, 2)


async def test_a_dropped_signal_is_gone(store: Database) -> None:
    entry_id = await a_dead_signal(store)
    dropped = await dead_entries.drop(store, NAMESPACE, entry_id)
    assert (dropped.id, dropped.kind) == (entry_id, "signal")
    assert await count(store, "outbox") == 0


async def test_the_run_of_a_dropped_start_is_rejected_with_the_reason(store: Database) -> None:
    run_id = await a_dead_start(store)
    await dead_entries.drop(store, NAMESPACE, run_id)
    row = await run_row(store, run_id)
    assert (row["status"], row["error_type"]) == ("rejected", "DroppedFromOutbox")
    assert row["error_message"].endswith("where it was dead: broken")
    assert await count(store, "outbox") == 0


@pytest.mark.parametrize("act", [dead_entries.revive, dead_entries.drop])
async def test_what_is_not_dead_is_left_alone(
    store: Database, act: Callable[[Database, str, UUID], Awaitable[OutboxEntry]]
) -> None:
    entry_id = await accepted_signal(store, new_id())
    with pytest.raises(Conflict, match="is not dead"):
        await act(store, NAMESPACE, entry_id)
    for namespace, unknown in ((NAMESPACE, uuid4()), ("elsewhere", entry_id)):
        with pytest.raises(NotFound):
            await act(store, namespace, unknown)
    assert await count(store, "outbox") == 1


async def test_a_cancel_revives_a_dead_start_to_find_out_whether_it_runs(store: Database) -> None:
    run_id = await a_dead_start(store)
    assert await outbox.cancel(store, run_id) is CancelDecision.REQUESTED
    entry = await a_leased_start(store)
    assert entry.cancel_requested


async def test_a_message_that_postgres_would_refuse_is_kept_all_the_same(store: Database) -> None:
    start = encoded()
    await accepted(store, start)
    message = "zero \x00, lone \ud800"
    await outbox.put_back(store, await a_leased_start(store, seconds=0), message)
    [entry] = await dead_entries.list_entries(store, NAMESPACE, dead=False, limit=10)
    assert entry.last_error == "zero \ufffd, lone ?"
