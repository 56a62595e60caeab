"""The spine: workflow, run, step, attempt, payload, and what starting and reading them needs."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the SQL file, as it is: several statements, no parameters."""
    script = Path(__file__).with_name("0001_core.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
