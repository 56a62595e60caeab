"""Puts the run that a reset made on record, so that the next request finds it."""

from __future__ import annotations

from tracker.core.columns import REF_FROM_MEMO, REF_FROM_RULE
from tracker.core.events import RunIdentity
from tracker.core.status import RunRank, run_version
from tracker.store import queries
from tracker.store.database import Database


async def record_reset(database: Database, run: RunIdentity) -> None:
    """Insert the run unless it is there already.

    Args:
        run: As Temporal describes it; with `rule_ref` where its memo has no ref.
    """
    ref = run.ref or run.rule_ref
    version = REF_FROM_MEMO if run.ref is not None else REF_FROM_RULE
    parameters = {
        "id": run.id,
        "namespace": run.namespace,
        "run_key": run.run_key,
        "first_run_key": run.first_run_key,
        "workflow_type": run.workflow_type,
        "workflow_id": run.workflow_id,
        "task_queue": run.task_queue,
        "ref_type": ref and ref.ref_type,
        "ref_id": ref and ref.ref_id,
        "ref_version": None if ref is None else version,
        "status_version": run_version(RunRank.RUNNING, 1),
        "started_at": run.started_at,
    }
    async with database.connection() as connection:
        sql = database.sql(queries.load("resets")["record_reset"])
        await connection.execute(sql, parameters)
