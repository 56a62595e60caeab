"""A batch as the one JSON document that the recorder's statement takes and a spill file keeps.

What a reader gets wrong: in spill files, documents outlive versions. A key may be added; where it
is missing, that must mean what it meant before.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Literal
from uuid import UUID

import orjson

from tracker.core.batch import Batch
from tracker.core.events import WorkflowTypeSeen
from tracker.core.ids import Ref
from tracker.core.merge import Row
from tracker.core.payloads import StoredPayload
from tracker.core.status import HISTORY_AUTHORITY

Follows = Literal["everything", "steps", "fresh steps"]
"""What a batch has, and so what may follow from it: runs too, or steps alone, or steps that have
never failed."""


def encode(batch: Batch, *, announce: bool = True, report: str | None = None) -> bytes:
    """The batch as one JSON document, rows sorted by key so that locks are taken in one order.

    Args:
        announce: Whether what changes by it is told to the live feed.
        report: Told with it: the report, as it came, of an externally driven run.
    """
    return orjson.dumps(
        {
            # First, and in this order: `execute` looks at how a batch begins.
            "fresh": _is_fresh(batch),
            "run": _sorted(batch.runs),
            "ref": [_ref(run_id, ref) for run_id, ref in sorted(batch.refs, key=str)],
            "workflow_type": [_workflow_type(t) for _, t in sorted(batch.workflow_types.items())],
            "step": _sorted(batch.steps),
            "attempt": _sorted(batch.attempts),
            "payload": [payload_row(key, batch.payloads[key]) for key in sorted(batch.payloads)],
            "announce": announce,
            "report": report,
        }
    )


def what_follows(encoded: bytes) -> Follows:
    """What may follow from an encoded batch; everything, if an earlier version has spilled it."""
    if encoded.startswith(b'{"fresh":true,'):
        return "fresh steps"
    without_runs = encoded.startswith(b'{"fresh":false,"run":[],"ref":[],"workflow_type":[],')
    return "steps" if without_runs else "everything"


def payload_row(key: UUID, payload: StoredPayload) -> Row:
    """A stored payload as the statement takes it."""
    return {
        "id": key,
        "treatment": payload.treatment,
        "encoding": payload.encoding,
        "size": payload.size,
        "digest": payload.digest.hex(),
        "body": None if payload.body is None else orjson.Fragment(payload.body),
        "data": None if payload.data is None else b64encode(payload.data).decode(),
        "key_id": payload.key_id,
    }


def _is_fresh(batch: Batch) -> bool:
    """Whether these are steps alone, each with its first attempt alone, and none fails: then none
    has failed before. An attempt after a reset has number 1 too, but was scheduled later than its
    step."""
    if batch.runs or batch.refs or batch.workflow_types:
        return False
    rows = (*batch.steps.values(), *batch.attempts.values())
    if any(row.get("error_type") is not None for row in rows):
        return False
    if any(row["status_version"] >= HISTORY_AUTHORITY for row in batch.steps.values()):
        return False  # History may say of a step that it went well after all.
    begun: set[UUID] = set()
    for row in batch.attempts.values():
        asked_at, step = row.get("scheduled_at"), batch.steps.get(row["step_id"], {})
        if row["number"] != 1 or asked_at is None or asked_at != step.get("scheduled_at"):
            return False
        begun.add(row["step_id"])
    return begun == batch.steps.keys()


def _sorted(rows: dict[UUID, Row]) -> list[Row]:
    return [rows[key] for key in sorted(rows)]


def _ref(run_id: UUID, ref: Ref) -> Row:
    return {"run_id": run_id, "ref_type": ref.ref_type, "ref_id": ref.ref_id}


def _workflow_type(seen: WorkflowTypeSeen) -> Row:
    return {
        "namespace": seen.namespace,
        "name": seen.name,
        "aliases": list(seen.aliases),
        "task_queue": seen.task_queue,
        "input_schema": seen.input_schema,
        "registered": seen.registered,
    }
