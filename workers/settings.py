"""What the worker process reads from the environment; Temporal's own settings come from
`temporalio.envconfig` (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, TOML profiles)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tracker.cli.environment import ProgramSettings
from tracker.temporal.ref_rules import RULES_FILE


class WorkerSettings(ProgramSettings):
    """Settings of `flowtrail worker`."""

    task_queue: str = Field(default="flowtrail", description="Task queue of the example workflows.")
    durability: Literal["awaited", "buffered"] = Field(
        default="awaited", description="Whether a step's end waits, shortly, for its flush."
    )
    spill_dir: Path | None = Field(
        default=None, description="Folder for events that the database does not take now."
    )
    rules_file: Path = Field(
        default=Path(RULES_FILE), description="Ref rules, `[[refs]]` in TOML; may be absent."
    )
    reconcile: bool = Field(
        default=True, description="Also project runs that closed without their worker's word."
    )
    smtp_host: str = Field(default="127.0.0.1", description="Mail server of the campaign example.")
    smtp_port: int = Field(default=1025, ge=1, le=65535)
    mail_from: str = Field(default="campaigns@example.org", description="Sender of the mails.")
    shutdown_grace: float = Field(
        default=10.0, ge=0, description="Seconds that activities get to finish at a stop."
    )
