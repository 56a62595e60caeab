"""`verify` against real histories: silent while the tables are true, exact when they are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import Client

from tests.conftest import register_namespace
from tests.temporal.tracking.harness import Handle, Tracked, run_id_of
from tests.temporal.tracking.random_workflows import Interpreter, act
from tests.waiting import eventually
from tracker.core.ids import Ref
from tracker.core.payloads import PayloadPolicy
from tracker.encryption import new_keyring
from tracker.store.database import Database, DatabaseOptions
from tracker.store.recorded_runs import RunChoice
from tracker.temporal.projector import Projector
from tracker.temporal.reconcile import Reconciler, ReconcilerOptions
from tracker.temporal.refs import tracked_ref
from tracker.temporal.verify import Verification, VerifyReport

AT_ONCE = (0.0,)
PROGRAM: list[dict[str, Any]] = [
    {"do": "activity", "fails": 2, "how": "plain", "limit": 0, "fatal": False},
    {"do": "local", "fails": 1, "how": "plain", "limit": 0, "fatal": False},
    {"do": "timer", "ms": 5},
    {"do": "child", "program": [{"do": "timer", "ms": 1}], "fatal": False},
    {"do": "activity", "fails": 1, "how": "never", "limit": 2, "fatal": True},
]


@pytest.fixture
async def store(tracked: Tracked) -> AsyncIterator[Database]:
    async with Database(DatabaseOptions(tracked.dsn), max_connections=2) as store:
        yield store


async def verified(tracked: Tracked, store: Database, **options: Any) -> VerifyReport:
    choice = RunChoice(tracked.namespace, **options.pop("choice", {}))
    options = {"settling": AT_ONCE} | options
    return await Verification(tracked.connection, store, choice, **options).run()


async def a_run(tracked: Tracked, store: Database, *, projected: bool = True) -> Handle:
    """Failed after steps of all kinds; recorded live, and confirmed by history if asked for."""
    async with tracked.worker([Interpreter], [act]):
        with tracked_ref("order", "o-1"):
            handle = await tracked.start("Interpreter", PROGRAM, "", client=tracked.client())
        with pytest.raises(Exception, match="Workflow execution failed"):
            await handle.result()
    if projected:
        await project_all(tracked, store)
    return handle


async def project_all(tracked: Tracked, store: Database) -> None:
    async with Projector(tracked.connection, store) as projector:
        for run in await tracked.runs():
            assert await projector.project_run(run.workflow_id, run.temporal_run_id)


async def execute(store: Database, sql: str, run_key: str) -> None:
    async with store.connection() as connection:
        cursor = await connection.execute(store.sql(sql), {"run_key": run_key})
        assert cursor.rowcount > 0, f"changed nothing: {sql}"


def fields(report: VerifyReport) -> set[str]:
    return {f"{d.table}.{d.column}" for run in report.found for d in run.differences}


async def test_true_tables_have_no_differences(tracked: Tracked, store: Database) -> None:
    await a_run(tracked, store)
    report = await verified(tracked, store)
    assert report.is_true, [d for run in report.found for d in run.differences]
    assert (report.runs, report.executions, report.unrecorded_before) == (2, 2, 0)
    assert report.history_events > 20


TAMPERED = {
    "run.status": "UPDATE {schema}.run SET status = 'completed', error_type = NULL,"
    " error_message = NULL, error_stack = NULL WHERE run_key = %(run_key)s",
    "run.task_queue": "UPDATE {schema}.run SET task_queue = 'x' WHERE run_key = %(run_key)s",
    "run.input_id": "UPDATE {schema}.run SET input_id = NULL WHERE run_key = %(run_key)s",
    "run_ref.*": "DELETE FROM {schema}.run_ref f USING {schema}.run r"
    " WHERE r.id = f.run_id AND r.run_key = %(run_key)s",
    "step.finished_at": "UPDATE {schema}.step SET finished_at = finished_at + interval '1 us'"
    " WHERE run_key = %(run_key)s AND kind = 'activity'",
    "step.*": "DELETE FROM {schema}.step WHERE run_key = %(run_key)s AND kind = 'timer'",
    "attempt.error_message": "UPDATE {schema}.attempt a SET error_message = 'another'"
    " FROM {schema}.step s WHERE s.id = a.step_id AND s.run_key = %(run_key)s"
    " AND a.outcome = 'failed'",
    "attempt.*": "DELETE FROM {schema}.attempt a USING {schema}.step s"
    " WHERE s.id = a.step_id AND s.run_key = %(run_key)s AND s.kind = 'activity'",
    "payload.*": "DELETE FROM {schema}.payload p USING {schema}.run r"
    " WHERE p.id = r.input_id AND r.run_key = %(run_key)s",
    "payload.digest": "UPDATE {schema}.payload p SET digest = 'x' FROM {schema}.run r"
    " WHERE p.id = r.input_id AND r.run_key = %(run_key)s",
}


async def test_whatever_is_changed_by_hand_is_told_and_repaired(
    tracked: Tracked, store: Database
) -> None:
    handle = await a_run(tracked, store)
    for field, sql in TAMPERED.items():
        await execute(store, sql, run_id_of(handle))
        told = await verified(tracked, store)
        assert field in fields(told), (field, told.found)
        [run] = told.found
        assert str(run.temporal_run_id) == run_id_of(handle)
        repaired = await verified(tracked, store, repair=True)
        assert repaired.is_true, (field, repaired.found)
        assert repaired.repaired == 1
        again = await verified(tracked, store)
        assert again.different == 0, (field, again.found)


async def test_a_run_that_the_tables_lack_is_told_and_brought_in(
    tracked: Tracked, store: Database
) -> None:
    await a_run(tracked, store)
    handle = await a_run(tracked, store)
    await execute(store, "DELETE FROM {schema}.run WHERE run_key = %(run_key)s", run_id_of(handle))
    [run] = (await verified(tracked, store)).found
    assert (run.run_id, str(run.temporal_run_id)) == (None, run_id_of(handle))
    assert (await verified(tracked, store, repair=True)).repaired == 1
    assert (await verified(tracked, store)).different == 0


async def test_runs_from_before_the_tracker_are_no_differences(
    tracked: Tracked, store: Database
) -> None:
    untracked = await tracked.connection.start_workflow("Any", id="old", task_queue="nobody")
    await a_run(tracked, store)
    report = await verified(tracked, store)
    assert (report.different, report.unrecorded_before) == (0, 1)
    await untracked.terminate()


async def test_the_seconds_that_the_reconciler_lags_are_no_differences(
    tracked: Tracked, store: Database
) -> None:
    pace = ReconcilerOptions(interval=0.2)
    async with Reconciler(tracked.connection, store.options, pace=pace) as reconciler:
        await eventually(lambda: reconciler.counters.rounds > 0)
        await a_run(tracked, store, projected=False)
        report = await verified(tracked, store, settling=(0.1, 1.0, 3.0, 3.0))
    assert report.different == 0, report.found


async def test_a_choice_leaves_out_the_rest(tracked: Tracked, store: Database) -> None:
    handle = await a_run(tracked, store)
    run_key = run_id_of(handle)
    await execute(store, TAMPERED["run.status"], run_key)
    for choice in ({"workflow_types": ("Other",)}, {"ref": Ref("order", "o-2")}):
        assert (await verified(tracked, store, choice=choice)).runs == 0
    by_ref = await verified(tracked, store, choice={"ref": Ref("order", "o-1")})
    assert (by_ref.runs, by_ref.different) == (2, 1)
    halves = [await verified(tracked, store, choice={"share": 0.5, "seed": n}) for n in range(30)]
    assert {half.runs for half in halves} == {0, 1, 2}


async def test_runs_whose_history_is_gone_are_counted_apart(
    tracked: Tracked, store: Database
) -> None:
    await a_run(tracked, store)
    open_one = await a_run(tracked, store)
    await a_run(tracked, store, projected=False)
    sql = (
        "UPDATE {schema}.run SET status = 'running', status_version = 17, finished_at = NULL,"
        " error_type = NULL, error_message = NULL, error_stack = NULL WHERE run_key = %(run_key)s"
    )
    await execute(store, sql, run_id_of(open_one))
    namespace = await without_histories(tracked, store)
    client = Client(tracked.connection.service_client, namespace=namespace)
    choice = RunChoice(namespace)
    report = await Verification(client, store, choice, settling=AT_ONCE).run()
    assert (report.runs, report.different) == (0, 1)
    assert (report.gone, report.unverifiable) == (3, 2)
    [run] = report.found
    assert run.differences[0].stored == "running"
    again = await Verification(client, store, choice, settling=AT_ONCE, repair=True).run()
    assert not again.is_true


async def without_histories(tracked: Tracked, store: Database) -> str:
    """Move the rows to a namespace in which nothing ran: Temporal deletes histories by the day."""
    namespace = f"{tracked.namespace}-other"
    await register_namespace(tracked.connection, namespace)
    async with store.connection() as connection:
        for table in ("run", "step", "run_ref"):
            sql = f"UPDATE {{schema}}.{table} SET namespace = %(other)s WHERE namespace = %(own)s"
            parameters = {"own": tracked.namespace, "other": namespace}
            await connection.execute(store.sql(sql), parameters)
    return namespace


async def test_values_of_another_policy_are_replaced_and_none_is_left_behind(
    tracked: Tracked, store: Database
) -> None:
    await a_run(tracked, store)
    policy = PayloadPolicy(sealer=new_keyring("k1"))
    report = await verified(tracked, store, policy=policy)
    assert "run.input_id" in fields(report)
    await verified(tracked, store, policy=policy, repair=True)
    assert fields(await verified(tracked, store, policy=policy)) == set()
    left = {row["id"]: row["key_id"] for row in await tracked.payloads()}
    inputs = {row["input_id"] for row in await tracked.rows("run")}
    assert {left[key] for key in inputs} == {"k1"}
    assert before_of(report).isdisjoint(left)


def before_of(report: VerifyReport) -> set[Any]:
    """Ids of values that the tables had."""
    return {
        difference.stored
        for run in report.found
        for difference in run.differences
        if difference.column in ("input_id", "output_id") and difference.stored is not None
    }
