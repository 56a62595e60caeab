"""Columns that many events state alike: who or what an event is about, its ref, its error."""

from __future__ import annotations

from uuid import UUID

from tracker.core.events import AttemptIdentity, Failure, RunIdentity, StepIdentity
from tracker.core.ids import Ref, attempt_id
from tracker.core.merge import Row
from tracker.core.status import Engine

REF_FROM_WORKFLOW, REF_FROM_RULE, REF_FROM_MEMO = 1, 2, 3
"""Precedence of where a primary ref comes from (`run.ref_version`)."""


def identity_columns(run: RunIdentity) -> Row:
    """Who a Temporal run is, and its ref."""
    row: Row = {
        "id": run.id,
        "namespace": run.namespace,
        "engine": Engine.TEMPORAL,
        "workflow_type": run.workflow_type,
        "workflow_id": run.workflow_id,
        "task_queue": run.task_queue,
        "run_key": run.run_key,
        "first_run_key": run.first_run_key,
        "parent_run_key": run.parent_run_key,
        "parent_workflow_id": run.parent_workflow_id,
        "root_run_key": run.root_run_key,
        "continued_from": run.continued_from,
        "attempt": run.attempt,
        "cron_schedule": run.cron_schedule,
        "ordered_at": run.started_at,
        "started_at": run.started_at,
    }
    if run.ref is not None:
        row |= primary_columns(run.ref, REF_FROM_MEMO)
    elif run.rule_ref is not None:
        row |= primary_columns(run.rule_ref, REF_FROM_RULE)
    return row


def primary_columns(ref: Ref, precedence: int) -> Row:
    """A primary ref, with where it comes from: one of the `REF_FROM_…`."""
    return {"ref_version": precedence, "ref_type": ref.ref_type, "ref_id": ref.ref_id}


def step_columns(step: StepIdentity, type_: str | None) -> Row:
    """Which step it is."""
    return {
        "id": step.id,
        "namespace": step.namespace,
        "run_key": step.run_key,
        "kind": step.kind,
        "step_key": step.step_key,
        "name": step.name,
        "type": type_,
    }


def attempt_columns(attempt: AttemptIdentity, step: UUID) -> Row:
    """Which attempt it is."""
    return {
        "id": attempt_id(step, attempt.key),
        "step_id": step,
        "number": attempt.number,
        "started_at": attempt.started_at,
    }


def error_columns(error: Failure | None) -> Row:
    """Why something failed; nulls where it did not."""
    return {
        "error_type": None if error is None else error.type,
        "error_message": None if error is None else error.message,
    }
