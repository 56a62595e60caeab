"""What ten million runs asked for: indexes, and words of error messages."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the SQL file, as it is: several statements, no parameters."""
    script = Path(__file__).with_name("0008_scale.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
