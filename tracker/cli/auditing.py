"""What a command did, for the audit; it names the account that ran it."""

from __future__ import annotations

from collections.abc import Mapping
from getpass import getuser
from typing import Any
from uuid import UUID

from tracker.store.audit import DONE, Action, record_action
from tracker.store.database import Database


def actor() -> str:
    """Whoever runs the command: `cli:` and the account's name."""
    return f"cli:{getuser()}"


async def note(
    database: Database,
    namespace: str,
    action: str,
    *,
    run_id: UUID | None = None,
    outcome: str = DONE,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry of the command's own actor; the arguments are those of `Action`."""
    entry = Action(
        actor=actor(),
        action=action,
        run_id=run_id,
        outcome=outcome,
        reason=reason,
        details=details,
    )
    await record_action(database, namespace, entry)
