"""What Alembic runs for a command. Only `tracker.migrations` starts it: there is no `alembic`
command line here, and no offline mode."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

_given = context.config.attributes


# Alembic passes these by keyword, under these names, whatever its annotation of the hook says.
def _note_applied(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],
    run_args: Mapping[str, Any],
) -> None:
    if step.up_revision_id is not None:
        _given["applied"].append(step.up_revision_id)


context.configure(
    connection=_given["connection"],
    version_table_schema=_given["schema"],
    on_version_apply=_note_applied,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
