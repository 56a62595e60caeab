"""How the tracker itself is doing, as `GET /v1/stats` tells it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

COUNTED_TO = 10_001
"""Where counting stops; this number means "more than 10,000"."""


class ReconcilerStats(BaseModel):
    """How far the namespace's reconciler has come."""

    round_at: datetime | None = Field(description="When it last finished a round; null: never.")
    since_round_seconds: float | None = Field(description="Seconds since then.")
    rounds: int = Field(description="Rounds in all, of whichever process.")
    lag_seconds: float | None = Field(
        description="Seconds since the earliest close that the last round had to project; 0: none."
    )
    closed_through: datetime | None = Field(description="Closes up to here are on record.")


class OutboxStats(BaseModel):
    """What Temporal has not confirmed."""

    size: int = Field(description="Accepted starts and signals.")
    dead: int = Field(description="Those that are given up until somebody acts.")
    oldest_seconds: float | None = Field(description="Age of the oldest that is not dead.")


class RecorderStats(BaseModel):
    """Workers' recorders that reported within the last day, of every namespace of these tables."""

    alive: int = Field(description="Those that reported within two minutes.")
    spilled: int = Field(description="Events that they kept on disk for a while.")
    spill_bytes: int = Field(description="On the disks of those alive now.")
    dropped: int = Field(description="Events that they lost.")
    poisoned: int = Field(description="Events that the database refuses.")


class Stats(BaseModel):
    """Counts stop at 10,001, which means "more than 10,000"."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "namespace": "default",
                    "runs": {"running": 12, "completed": 10001, "failed": 3},
                    "unverified": 0,
                    "oldest_unverified_seconds": None,
                    "unverifiable": 0,
                    "outbox": {"size": 0, "dead": 0, "oldest_seconds": None},
                    "reconciler": {
                        "round_at": "2026-03-01T12:00:00Z",
                        "since_round_seconds": 1.2,
                        "rounds": 43200,
                        "lag_seconds": 0.0,
                        "closed_through": "2026-03-01T11:59:58Z",
                    },
                    "recorders": {
                        "alive": 2,
                        "spilled": 0,
                        "spill_bytes": 0,
                        "dropped": 0,
                        "poisoned": 0,
                    },
                }
            ]
        }
    )

    namespace: str
    runs: dict[str, int] = Field(description="Runs by status; statuses without runs are absent.")
    unverified: int = Field(description="Closed runs that history has not confirmed yet.")
    oldest_unverified_seconds: float | None = Field(
        description="Seconds since the first of them closed."
    )
    unverifiable: int = Field(description="Closed runs whose history was gone before that.")
    outbox: OutboxStats
    reconciler: ReconcilerStats
    recorders: RecorderStats
