"""Random workflows, run for real: their facts merge to the same rows in any order, the rows say
what the histories say, and what only a worker can know is what the activities themselves saw.

`--soak N` runs many more, drawn anew each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.client import Client, WorkflowFailureError

from tests.against_history import contradictions
from tests.conftest import register_namespace
from tests.temporal.tracking.harness import Handle, RecordedRun, Tracked
from tests.temporal.tracking.random_workflows import SEEN, Interpreter, Program, Seen, act
from tests.waiting import eventually
from tracker.core.batch import Batch
from tracker.core.events import RunStarted, TrackerEvent
from tracker.core.fold import fold
from tracker.core.merge import ATTEMPT, RUN, STEP, Row, Table
from tracker.embedded.temporal import EmbeddedTemporal

SHORT, LONG = 15, 150
"""Examples."""
TABLES = {"run": RUN, "step": STEP, "attempt": ATTEMPT}


def _steps(fatal: st.SearchStrategy[bool]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {
            "do": st.sampled_from(["activity", "local"]),
            "fails": st.integers(0, 3),
            "how": st.sampled_from(["plain", "typed", "later", "never"]),
            "limit": st.integers(0, 3),
            "fatal": fatal,
        }
    )


timers = st.fixed_dictionaries({"do": st.just("timer"), "ms": st.integers(1, 30)})
signals = st.just({"do": "signal"})
continuing = st.just({"do": "continue"})


def _programs(*more: st.SearchStrategy[Any], depth: int = 2) -> st.SearchStrategy[Program]:
    steps = _steps(st.sampled_from([False, False, True]) if depth else st.just(False))
    kinds: list[st.SearchStrategy[Any]] = [steps, steps, timers, *more]
    if depth:
        branches = st.lists(_programs(*more, depth=0), min_size=2, max_size=3)
        kinds += [
            st.fixed_dictionaries({"do": st.just("together"), "branches": branches}),
            st.fixed_dictionaries(
                {
                    "do": st.just("child"),
                    "program": _programs(depth=depth - 1),
                    "fatal": st.booleans(),
                }
            ),
        ]
    return st.lists(st.one_of(kinds), min_size=1, max_size=4)


programs = st.one_of(
    _programs(signals),
    # A signal that the first run got is not there in the next one.
    st.builds(lambda one, then, two: [*one, then, *two], _programs(), continuing, _programs()),
)


@pytest.mark.timeout(1200)
def test_any_run_is_recorded_as_it_was(
    temporal_server: EmbeddedTemporal,
    tracking_database: str,
    tmp_path: Path,
    heard: list[TrackerEvent],
    soaking: bool,
) -> None:

    async def opened(stack: AsyncExitStack) -> Tracked:
        namespace = f"random-{uuid4().hex[:8]}"
        client = await Client.connect(temporal_server.address, namespace=namespace)
        await register_namespace(client, namespace)
        tracked = Tracked(client, tracking_database, tmp_path / "spill", heard)
        await stack.enter_async_context(tracked.worker([Interpreter], [act]))
        return tracked

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        tracked = runner.run(opened(stack))

        @settings(
            max_examples=LONG if soaking else SHORT,
            deadline=None,
            derandomize=not soaking,
            database=None,
        )
        @given(program=programs, seed=st.integers(0, 2**32))
        def check(program: Program, seed: int) -> None:
            runner.run(_check(tracked, program, Random(seed)))

        try:
            check()
        finally:
            runner.run(stack.aclose())


async def _check(tracked: Tracked, program: Program, chance: Random) -> None:
    handle = await tracked.start("Interpreter", program, "")
    for _ in range(_count(program, "signal")):
        await handle.signal("poke")
    try:
        await handle.result()
    except WorkflowFailureError as error:
        if "is fatal" not in str(error.cause):
            raise

    async def all_runs() -> list[Handle]:
        return await _all_runs(tracked, handle)

    runs: list[Handle] = await eventually(all_runs)
    for run in runs:
        await _check_run(tracked, run, chance)


async def _all_runs(tracked: Tracked, root: Handle) -> list[Handle]:
    """The runs of the chain and all children, once each has closed and its end is recorded."""
    started = {
        (event.run.workflow_id, str(event.run.run_key))
        for event in tracked.heard
        if isinstance(event, RunStarted) and event.run.workflow_id.split("/")[0] == root.id
    }
    handles = [tracked.connection.get_workflow_handle(w, run_id=key) for w, key in started]
    for handle in handles:
        assert (await handle.describe()).close_time is not None
        await tracked.run(handle)
    return handles


async def _check_run(tracked: Tracked, handle: Handle, chance: Random) -> None:
    live = [event for event in tracked.heard if _run_key(event) == str(handle.run_id)]
    told = await tracked.history(handle)
    expected = fold([*live, *told])
    assert _plain(_merged(_shuffled([*live, *told], chance))) == _plain(expected)

    recorded = await tracked.after_history(handle)
    rows = await _stored(tracked, recorded)
    found = list(contradictions(fold(told), *rows))
    assert not found, (handle.id, found)
    _check_attempts(recorded, [seen for seen in SEEN if seen.run_key == handle.run_id])


def _shuffled(events: list[TrackerEvent], chance: Random) -> list[list[TrackerEvent]]:
    """In any order, some of them twice, in one to four batches."""
    some = chance.sample(events, chance.randint(0, len(events)))
    mixed = chance.sample([*events, *some], len(events) + len(some))
    cuts = sorted(chance.randint(0, len(mixed)) for _ in range(chance.randint(0, 3)))
    return [mixed[low:high] for low, high in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]


def _merged(batches: Sequence[list[TrackerEvent]]) -> Batch:
    merged = Batch()
    for batch in map(fold, batches):
        for table, rows in ((RUN, batch.runs), (STEP, batch.steps), (ATTEMPT, batch.attempts)):
            for row in rows.values():
                merged.add(table, row)
    return merged


def _plain(batch: Batch) -> dict[str, dict[UUID, Row]]:
    rows = {"run": batch.runs, "step": batch.steps, "attempt": batch.attempts}
    return {
        name: {key: _plain_row(TABLES[name], row) for key, row in found.items()}
        for name, found in rows.items()
    }


def _plain_row(table: Table, row: Row) -> Row:
    """Absent is None. The SDK adds frames to a stack after interceptors have seen the error."""
    plain = {column.name: row.get(column.name) for column in table.columns}
    stack = plain.get("error_stack")
    return plain | ({"error_stack": stack[stack.rfind('File "') :]} if stack else {})


async def _stored(tracked: Tracked, run: RecordedRun) -> list[list[Row]]:
    runs, steps = await tracked.rows("run"), await tracked.rows("step")
    key = run.temporal_run_id
    own = [row for row in steps if row["run_key"] == key]
    attempts = await tracked.attempts([row["id"] for row in own])
    return [[row for row in runs if row["run_key"] == key], own, attempts]


def _check_attempts(run: RecordedRun, seen: list[Seen]) -> None:
    """Each attempt that failed is on record as its activity saw it, and no other is."""
    recorded = {
        (step.name, one.number): (
            one.error_type,
            one.error_message,
            one.next_retry_at and one.next_retry_at - one.finished_at,
        )
        for step in run.steps
        for one in step.tries
        if one.outcome == "failed"
    }
    noted = {(one.name, one.number): (one.error_type, one.error_message, one.pause) for one in seen}
    assert recorded == noted


def _count(program: Program, kind: str) -> int:
    """Operations of a kind in a program, children left out."""
    branches = [branch for op in program for branch in op.get("branches", [])]
    return sum(op["do"] == kind for op in program) + sum(_count(b, kind) for b in branches)


def _run_key(event: Any) -> str | None:
    for name in ("run", "step"):
        if hasattr(event, name):
            return str(getattr(event, name).run_key)
    return str(event.attempt.step.run_key) if hasattr(event, "attempt") else None
