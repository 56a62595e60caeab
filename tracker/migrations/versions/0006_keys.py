"""Keys that reach some runs only, have a rate, and are rotated."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the SQL file, as it is: several statements, no parameters."""
    script = Path(__file__).with_name("0006_keys.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
