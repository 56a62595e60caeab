"""The schema as SQLModel classes, to hold the migrations against (`tracker.migrations.drift`).

Nothing is read or written through them: table classes do not validate, and cost three times what a
read model does. The lists in CHECKs come from the enums of `tracker.core`.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, Computed, Index, Uuid, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlmodel import Field

from tracker.core.payloads import Treatment
from tracker.core.status import (
    CLOSED_RUN_STATUSES,
    CLOSED_STEP_STATUSES,
    HISTORY_AUTHORITY,
    AttemptOutcome,
    Engine,
    RunStatus,
    StepKind,
    StepStatus,
)

# Registers its classes: who looks at the tables of one module looks at all.
from tracker.models import operation_tables as operation_tables
from tracker.models.columns import (
    TEXT_ARRAY,
    TIMESTAMPTZ,
    BigInt,
    Bytes,
    KeyStr,
    Metadata,
    Moment,
    MomentOfInsert,
    OptionalBigInt,
    OptionalBytes,
    OptionalJson,
    OptionalMoment,
    OptionalStr,
    Str,
    TrackerRow,
    check,
    index,
    one_of,
    unique,
)

FINGERPRINT = (
    "md5(error_type || chr(31) || name || chr(31) || left(regexp_replace(regexp_replace("
    "coalesce(error_message, ''), "
    "'[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}|0x[0-9a-fA-F]+', '<id>', 'g'), "
    "'[0-9]+([.,:][0-9]+)*', '<n>', 'g'), 300))::uuid"
)
WORDS = "to_tsvector('simple', coalesce(error_message, ''))"
OPEN_RUN_STATUSES = [status for status in RunStatus if status not in CLOSED_RUN_STATUSES]
OPEN_STEP_STATUSES = [status for status in StepStatus if status not in CLOSED_STEP_STATUSES]
KEPT_TREATMENTS = [treatment for treatment in Treatment if treatment is not Treatment.NONE]


class WorkflowRow(TrackerRow, table=True):
    """One workflow type for one ref: identity only."""

    __table_args__ = (
        unique(
            "workflow_identity_key", "namespace, workflow_type, ref_type, ref_id", nulls_equal=True
        ),
        check("workflow_ref_check", "(ref_type IS NULL) = (ref_id IS NULL)"),
        index("workflow_created_idx", "namespace, created_at, id"),
        index("workflow_type_idx", "namespace, workflow_type, created_at, id"),
        index(
            "workflow_ref_idx",
            "namespace, ref_type, ref_id, created_at, id",
            where="ref_type IS NOT NULL",
        ),
        {
            "comment": "One workflow type for one ref. Identity only: what changes is read from "
            "run, by index."
        },
    )

    id: UUID = Field(
        primary_key=True, sa_column_kwargs={"server_default": text("gen_random_uuid()")}
    )
    namespace: Str
    workflow_type: Str
    ref_type: OptionalStr
    ref_id: OptionalStr
    metadata_: Metadata
    created_at: Moment


class RunRow(TrackerRow, table=True):
    """One execution."""

    __table_args__ = (
        unique("run_key_key", "namespace, run_key"),
        check("run_engine_check", one_of("engine", Engine)),
        check("run_status_check", one_of("status", RunStatus)),
        check(
            "run_finished_check", f"({one_of('status', OPEN_RUN_STATUSES)}) = (finished_at IS NULL)"
        ),
        check(
            "run_started_check",
            "status IN ('accepted', 'rejected', 'canceled') OR started_at IS NOT NULL",
        ),
        check("run_output_check", "output_id IS NULL OR status = 'completed'"),
        check("run_ref_check", "(ref_type IS NULL) = (ref_id IS NULL)"),
        check("run_metadata_check", "metadata IS NULL OR jsonb_typeof(metadata) = 'object'"),
        index("run_ordered_idx", "namespace, ordered_at, id"),
        index("run_open_idx", "namespace, ordered_at, id", where="finished_at IS NULL"),
        index("run_type_idx", "namespace, workflow_type, ordered_at, id"),
        index("run_status_idx", "namespace, status, ordered_at, id"),
        index("run_type_status_idx", "namespace, workflow_type, status, ordered_at, id"),
        index("run_workflow_idx", "namespace, workflow_type, ref_type, ref_id, ordered_at, id"),
        index("run_queue_idx", "namespace, task_queue, ordered_at, id"),
        index("run_workflow_id_idx", "namespace, workflow_id, ordered_at, id"),
        index("run_finished_idx", "namespace, finished_at, id", where="finished_at IS NOT NULL"),
        index(
            "run_skewed_idx",
            "namespace, ordered_at, id",
            where=(
                "started_at - ordered_at NOT BETWEEN '-00:01:00' AND '00:01:00' "
                "OR finished_at - ordered_at < '-00:01:00'"
            ),
        ),
        index("run_parent_idx", "namespace, parent_run_key", where="parent_run_key IS NOT NULL"),
        check(
            "run_waiting_on_check",
            "waiting_on IS NULL OR (jsonb_typeof(waiting_on) = 'array' "
            "AND waiting_on_at IS NOT NULL)",
        ),
        check(
            "run_erased_check",
            "erased_at IS NULL OR (input_id IS NULL AND output_id IS NULL AND metadata IS NULL "
            "AND error_message IS NULL AND error_stack IS NULL)",
        ),
        index(
            "run_unverified_idx",
            "namespace, finished_at, id",
            where=(
                "finished_at IS NOT NULL AND run_key IS NOT NULL "
                f"AND status_version < {HISTORY_AUTHORITY} AND unverifiable_at IS NULL"
            ),
        ),
        index("run_erased_idx", "namespace, run_key", where="erased_at IS NOT NULL"),
        index("run_unverifiable_idx", "namespace", where="unverifiable_at IS NOT NULL"),
        check(
            "run_metadata_patch_check",
            "metadata_patch IS NULL OR (jsonb_typeof(metadata_patch) = 'object' "
            "AND erased_at IS NULL)",
        ),
        index("run_build_idx", "namespace, build_id, ordered_at, id", where="build_id IS NOT NULL"),
        Index(
            "run_duration_idx",
            "namespace",
            text("(finished_at - started_at)"),
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        index("run_rerun_idx", "namespace, rerun_of", where="rerun_of IS NOT NULL"),
    )

    id: UUID = Field(primary_key=True)
    namespace: Str
    engine: Str
    run_key: UUID | None
    workflow_type: Str
    workflow_id: Str
    task_queue: OptionalStr
    ref_type: OptionalStr
    ref_id: OptionalStr
    ref_version: int | None
    status: Str
    status_version: BigInt
    ordered_at: Moment
    accepted_at: OptionalMoment
    started_at: OptionalMoment
    finished_at: OptionalMoment
    paused_at: OptionalMoment
    input_id: UUID | None
    input_version: int | None
    output_id: UUID | None
    error_type: OptionalStr
    error_message: OptionalStr
    error_stack: OptionalStr
    metadata_: Metadata
    metadata_version: OptionalBigInt
    first_run_key: UUID | None
    continued_from: UUID | None
    continued_to: UUID | None
    parent_run_key: UUID | None
    parent_workflow_id: OptionalStr
    root_run_key: UUID | None
    attempt: int | None
    cron_schedule: OptionalStr
    duplicate_of: UUID | None
    worker_identity: OptionalStr
    build_id: OptionalStr
    worker_version: OptionalBigInt
    task_failed_at: OptionalMoment
    task_failure_type: OptionalStr
    task_failure_message: OptionalStr
    task_failure_version: OptionalBigInt
    projected_length: OptionalBigInt
    projected_at: OptionalMoment
    recorded_at: MomentOfInsert
    waiting_on: OptionalJson
    waiting_on_at: OptionalMoment
    unverifiable_at: OptionalMoment
    erased_at: OptionalMoment
    payloads_purged_at: OptionalMoment
    rerun_of: UUID | None
    metadata_patch: OptionalJson


class RunRefRow(TrackerRow, table=True):
    """Every ref of a run."""

    __table_args__ = (
        check(
            "run_ref_length_check",
            "length(ref_type) BETWEEN 1 AND 100 AND length(ref_id) BETWEEN 1 AND 200 "
            "AND position('/' IN ref_type) = 0",
        ),
        index("run_ref_idx", "namespace, ref_type, ref_id, ordered_at, run_id"),
        index("run_ref_type_idx", "namespace, ref_type, ordered_at, run_id"),
        {"comment": "Every ref of a run, the primary one included."},
    )

    run_id: UUID = Field(primary_key=True)
    namespace: Str
    ref_type: KeyStr
    ref_id: KeyStr
    ordered_at: Moment


class RunLabelRow(TrackerRow, table=True):
    """Metadata values as filters need them."""

    __table_args__ = (
        index("run_label_idx", "namespace, key, value, ordered_at, run_id"),
        {
            "comment": "Scalar metadata values up to 256 characters, for filters that GIN answers "
            "too slowly."
        },
    )

    run_id: UUID = Field(primary_key=True)
    key: KeyStr
    value: Str
    namespace: Str
    ordered_at: Moment


class StepRow(TrackerRow, table=True):
    """One unit of work in a run."""

    __table_args__ = (
        check("step_kind_check", one_of("kind", StepKind)),
        check("step_status_check", one_of("status", StepStatus)),
        check(
            "step_finished_check",
            f"({one_of('status', OPEN_STEP_STATUSES)}) = (finished_at IS NULL)",
        ),
        check("step_retry_check", "next_retry_at IS NULL OR status = 'scheduled'"),
        check("step_output_check", "output_id IS NULL OR status = 'completed'"),
        index("step_run_idx", "namespace, run_key"),
    )

    id: UUID = Field(primary_key=True)
    namespace: Str
    run_key: UUID
    kind: Str
    step_key: Str
    name: Str
    type: OptionalStr
    status: Str
    status_version: BigInt
    task_queue: OptionalStr
    attempts: int | None
    max_attempts: int | None
    scheduled_at: OptionalMoment
    started_at: OptionalMoment
    last_started_at: OptionalMoment
    finished_at: OptionalMoment
    next_retry_at: OptionalMoment
    input_id: UUID | None
    input_version: int | None
    output_id: UUID | None
    error_type: OptionalStr
    error_message: OptionalStr
    progress: OptionalJson
    progress_at: OptionalMoment
    detail: OptionalJson
    event_id: int | None
    recorded_at: MomentOfInsert


class AttemptRow(TrackerRow, table=True):
    """One try of a step."""

    __table_args__ = (
        check("attempt_number_check", "number >= 1"),
        check("attempt_outcome_check", one_of("outcome", AttemptOutcome)),
        check("attempt_finished_check", "(outcome = 'running') = (finished_at IS NULL)"),
        check("attempt_retry_check", "next_retry_at IS NULL OR outcome IN ('failed', 'timed_out')"),
        index("attempt_step_idx", "step_id, started_at"),
    )

    id: UUID = Field(primary_key=True)
    step_id: UUID
    number: int
    outcome: Str
    outcome_version: int
    scheduled_at: OptionalMoment
    started_at: Moment
    finished_at: OptionalMoment
    next_retry_at: OptionalMoment
    error_type: OptionalStr
    error_message: OptionalStr
    error_stack: OptionalStr
    task_queue: OptionalStr
    worker_identity: OptionalStr
    build_id: OptionalStr
    trace_id: OptionalStr
    annotations: OptionalJson
    recorded_at: MomentOfInsert


class PayloadRow(TrackerRow, table=True):
    """An input or output; its partitions are made by `tracker.store.partitions`."""

    __table_args__ = (
        check("payload_treatment_check", one_of("treatment", KEPT_TREATMENTS)),
        check(
            "payload_kept_check",
            "treatment NOT IN ('digest', 'too_large') OR (body IS NULL AND data IS NULL)",
        ),
        check("payload_key_check", "key_id IS NULL OR (body IS NULL AND data IS NOT NULL)"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: UUID = Field(primary_key=True)
    treatment: Str
    encoding: Str
    size: int
    digest: Bytes
    body: OptionalJson
    data: OptionalBytes
    stored_at: MomentOfInsert
    key_id: OptionalStr


class OutboxRow(TrackerRow, table=True):
    """An accepted start or signal that Temporal has not confirmed."""

    __table_args__ = (
        check("outbox_kind_check", "kind IN ('start', 'signal')"),
        check("outbox_on_conflict_check", "on_conflict IN ('reject', 'existing')"),
        check("outbox_start_check", "(kind = 'start') = (on_conflict IS NOT NULL)"),
        check("outbox_dead_check", "dead_at IS NULL OR leased_until = 'infinity'"),
        index("outbox_due_idx", "namespace, leased_until"),
        index("outbox_run_idx", "run_id, created_at, id"),
        index("outbox_dead_idx", "namespace, dead_at", where="dead_at IS NOT NULL"),
        {
            "comment": "Accepted starts and signals that Temporal has not confirmed; `request` is "
            "the complete, encoded call."
        },
    )

    id: UUID = Field(primary_key=True)
    kind: Str
    namespace: Str
    run_id: UUID
    request: Bytes
    on_conflict: OptionalStr
    created_at: MomentOfInsert
    leased_until: Moment
    tries: int = Field(sa_column_kwargs={"server_default": text("0")})
    last_error: OptionalStr
    cancel_requested_at: OptionalMoment
    dead_at: OptionalMoment
    failures: int = Field(sa_column_kwargs={"server_default": text("0")})


class IdempotencyRow(TrackerRow, table=True):
    """A caller's key and the run that it stands for."""

    namespace: KeyStr
    key: KeyStr
    digest: Bytes
    run_id: UUID
    created_at: MomentOfInsert


class WorkflowTypeRow(TrackerRow, table=True):
    """A workflow type that a worker serves, or that was seen in a run."""

    namespace: KeyStr
    name: KeyStr
    aliases: list[str] = Field(
        sa_type=TEXT_ARRAY, sa_column_kwargs={"server_default": text("'{}'")}
    )
    task_queue: OptionalStr
    input_schema: OptionalJson
    registered_at: datetime | None = Field(
        sa_type=TIMESTAMPTZ,
        sa_column_kwargs={
            "comment": "When a worker last announced it; NULL for a type that was only seen in "
            "runs."
        },
    )
    first_seen_at: MomentOfInsert


class StepFailureRow(TrackerRow, table=True):
    """A step of which at least one attempt failed."""

    __table_args__ = (
        check("step_failure_kind_check", one_of("kind", StepKind)),
        check("step_failure_status_check", one_of("status", StepStatus)),
        check("step_failure_seen_check", "seen_at >= first_at"),
        check("step_failure_run_check", "(run_id IS NULL) = (ordered_at IS NULL)"),
        index("step_failure_seen_idx", "namespace, seen_at, step_id"),
        index("step_failure_status_idx", "namespace, status, seen_at, step_id"),
        index("step_failure_type_idx", "namespace, workflow_type, seen_at, step_id"),
        index("step_failure_name_idx", "namespace, name, seen_at, step_id"),
        index("step_failure_error_idx", "namespace, error_type, seen_at, step_id"),
        index("step_failure_fingerprint_idx", "namespace, fingerprint, seen_at, step_id"),
        index("step_failure_run_idx", "namespace, run_key"),
        index("step_failure_name_run_idx", "namespace, name, status, ordered_at, run_id"),
        index("step_failure_fingerprint_run_idx", "namespace, fingerprint, ordered_at, run_id"),
        index("step_failure_unplaced_idx", "namespace, run_key", where="run_id IS NULL"),
        Index("step_failure_words_idx", "words", postgresql_using="gin"),
        {
            "comment": "Steps of which at least one attempt failed, as they stand now, with the "
            "latest error."
        },
    )

    step_id: UUID = Field(primary_key=True)
    namespace: Str
    run_key: UUID
    workflow_type: OptionalStr
    kind: Str
    name: Str
    status: Str
    attempts: int | None
    error_type: Str
    error_message: OptionalStr
    build_id: OptionalStr
    first_at: Moment
    seen_at: Moment
    fingerprint: UUID = Field(
        sa_column=Column(Uuid, Computed(FINGERPRINT, persisted=True), nullable=False)
    )
    words: str = Field(sa_column=Column(TSVECTOR, Computed(WORDS, persisted=True), nullable=False))
    run_id: UUID | None
    ordered_at: OptionalMoment
