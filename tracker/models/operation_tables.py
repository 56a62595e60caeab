"""The tables beside those of runs: who acts and may act, how far the tracker has come, what must
stay. As `tables`, to hold the migrations against."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Integer, LargeBinary, Text, text
from sqlmodel import Field

from tracker.core.status import (
    ENDED_BULKS,
    BulkAction,
    BulkItemStatus,
    BulkStatus,
    ChangeKind,
)
from tracker.models.columns import (
    TEXT_ARRAY,
    TIMESTAMPTZ,
    BigInt,
    Bytes,
    Json,
    KeyStr,
    Moment,
    MomentOfChange,
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


class ApiKeyRow(TrackerRow, table=True):
    """A key of the HTTP API."""

    __table_args__ = (
        unique("api_key_secret_key", "secret_hash"),
        unique("api_key_name_key", "name"),
        check(
            "api_key_scopes_check",
            "cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'start', 'control', 'admin']",
        ),
        unique("api_key_previous_key", "previous_hash"),
        check("api_key_ref_types_check", "cardinality(ref_types) BETWEEN 1 AND 20"),
        check("api_key_workflow_types_check", "cardinality(workflow_types) BETWEEN 1 AND 20"),
        check("api_key_rate_check", "rate > 0 AND rate <= 100000"),
        check("api_key_previous_check", "(previous_hash IS NULL) = (previous_until IS NULL)"),
    )

    id: UUID = Field(primary_key=True)
    name: Str
    secret_hash: Bytes
    scopes: list[str] = Field(sa_type=TEXT_ARRAY)
    created_at: MomentOfInsert
    expires_at: OptionalMoment
    revoked_at: OptionalMoment
    ref_types: list[str] | None = Field(sa_type=TEXT_ARRAY)
    workflow_types: list[str] | None = Field(sa_type=TEXT_ARRAY)
    rate: float | None
    previous_hash: OptionalBytes
    previous_until: OptionalMoment


class AuditRow(TrackerRow, table=True):
    """A control action: who did what, and why."""

    __table_args__ = (
        index("audit_run_idx", "run_id, at"),
        index("audit_at_idx", "namespace, at, id"),
        index("audit_actor_idx", "namespace, actor, at, id"),
    )

    id: UUID = Field(primary_key=True)
    at: MomentOfInsert
    namespace: Str
    actor: Str
    action: Str
    run_id: UUID | None
    reason: OptionalStr
    outcome: Str
    details: OptionalJson


class ReconcileCursorRow(TrackerRow, table=True):
    """How far reconciling has come."""

    __table_args__ = ({"comment": "How far the reconciler of a namespace has come."},)

    namespace: KeyStr
    closed_through: Moment
    updated_at: MomentOfInsert
    started_through: OptionalMoment
    round_at: OptionalMoment
    rounds: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    lag_seconds: float | None


class CompatibilityRow(TrackerRow, table=True):
    """Which older code may go on."""

    __table_args__ = (
        {
            "comment": "One row: code that needs this revision of the schema, or a later one, may "
            "read and write."
        },
    )

    oldest_revision: KeyStr


class LegalHoldRow(TrackerRow, table=True):
    """A ref whose runs must stay as they are."""

    __table_args__ = ({"comment": "Refs whose runs no purge and no erasure touches."},)

    namespace: KeyStr
    ref_type: KeyStr
    ref_id: KeyStr
    reason: Str
    actor: Str
    held_at: MomentOfInsert


class PayloadHorizonRow(TrackerRow, table=True):
    """A purge of whole months."""

    __table_args__ = (
        {"comment": "Moments before which stored values were dropped by whole months."},
    )

    dropped_before: datetime = Field(sa_type=TIMESTAMPTZ, primary_key=True)
    dropped_at: MomentOfInsert


class RecorderRow(TrackerRow, table=True):
    """A worker's recorder."""

    __table_args__ = (
        index("recorder_seen_idx", "seen_at"),
        {"comment": "What each recorder has taken in, written, spilled and lost so far."},
    )

    id: UUID = Field(primary_key=True)
    worker: Str
    seen_at: Moment
    recorded: BigInt
    written: BigInt
    spilled: BigInt
    dropped: BigInt
    poisoned: BigInt
    spill_bytes: BigInt


class BulkRow(TrackerRow, table=True):
    """An action on many runs."""

    __table_args__ = (
        check("bulk_action_check", one_of("action", BulkAction)),
        check("bulk_status_check", one_of("status", BulkStatus)),
        check(
            "bulk_finished_check", f"({one_of('status', ENDED_BULKS)}) = (finished_at IS NOT NULL)"
        ),
        check(
            "bulk_total_check",
            "status IN ('gathering', 'canceled', 'failed') OR total IS NOT NULL",
        ),
        check("bulk_rate_check", "rate > 0"),
        index("bulk_created_idx", "namespace, created_at, id"),
        {"comment": "Actions on all runs of a filter; arguments are not kept."},
    )

    id: UUID = Field(primary_key=True)
    namespace: Str
    action: Str
    filter: Json
    actor: Str
    reason: OptionalStr
    status: Str
    rate: float
    total: OptionalBigInt
    error: OptionalStr
    created_at: MomentOfInsert
    updated_at: MomentOfInsert
    finished_at: OptionalMoment


class ChangePendingRow(TrackerRow, table=True):
    """A change as its writer announced it, without a place in the order."""

    __table_args__ = (
        check("change_pending_kind_check", one_of("kind", ChangeKind)),
        index("change_pending_run_idx", "run_id, id", "run_id IS NOT NULL"),
        index("change_pending_run_key_idx", "run_key, id", "run_key IS NOT NULL"),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    namespace: Str
    kind: Str
    run_id: UUID | None
    run_key: UUID | None
    status: Str
    at: MomentOfChange
    data: Json
    report: OptionalStr


class ChangeRow(TrackerRow, table=True):
    """An entry of the live feed."""

    __table_args__ = (
        check("change_kind_check", one_of("kind", ChangeKind)),
        check("change_ref_check", "(ref_type IS NULL) = (ref_id IS NULL)"),
        index("change_run_idx", "run_id, seq"),
        index("change_unknown_run_idx", "run_key", "run_id IS NULL"),
        {
            "comment": "What changed, in the one order that all readers share. Kept for a while "
            "only."
        },
    )

    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    pending_id: BigInt
    namespace: Str
    kind: Str
    run_id: UUID | None
    run_key: UUID | None
    workflow_type: OptionalStr
    ref_type: OptionalStr
    ref_id: OptionalStr
    refs: OptionalJson
    status: Str
    at: Moment
    sequenced_at: MomentOfChange
    data: Json
    report: str | None = Field(
        sa_type=Text,
        sa_column_kwargs={
            "comment": "The report of an externally driven run that made the change, as it came."
        },
    )


class FeedRow(TrackerRow, table=True):
    """How far the live feed has come, in its one row."""

    __table_args__ = (
        check("feed_one_check", "id = 1"),
        check("feed_kept_check", "kept_after >= 0 AND kept_after <= last_seq"),
    )

    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    last_seq: BigInt
    kept_after: int = Field(
        sa_type=BigInteger, sa_column_kwargs={"comment": "Changes up to this one are gone."}
    )


class TicketRow(TrackerRow, table=True):
    """A ticket for one live connection."""

    __table_args__ = (
        {"comment": "Lets a browser open one live connection, which sends no headers."},
    )

    secret_hash: bytes = Field(sa_type=LargeBinary, primary_key=True)
    caller: Json
    expires_at: Moment


class BulkItemRow(TrackerRow, table=True):
    """One run of a bulk action."""

    __table_args__ = (
        check("bulk_item_status_check", one_of("status", BulkItemStatus)),
        check("bulk_item_finished_check", "(status = 'pending') = (finished_at IS NULL)"),
        check("bulk_item_error_check", "(status = 'failed') = (error_code IS NOT NULL)"),
        index("bulk_item_status_idx", "bulk_id, status, run_id"),
        {"comment": "One run of a bulk action, and what came of it."},
    )

    bulk_id: UUID = Field(primary_key=True)
    run_id: UUID = Field(primary_key=True)
    status: str = Field(sa_type=Text, sa_column_kwargs={"server_default": text("'pending'")})
    tries: int = Field(sa_column_kwargs={"server_default": text("0")})
    new_run_id: UUID | None
    error_code: OptionalStr
    error_message: OptionalStr
    finished_at: OptionalMoment
