"""The live feed, tickets, and steps of externally driven runs."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the SQL file, as it is: several statements, no parameters."""
    script = Path(__file__).with_name("0009_live.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
