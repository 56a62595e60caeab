"""Values that are encrypted: with which key."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the SQL file, as it is: several statements, no parameters."""
    script = Path(__file__).with_name("0007_encryption.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
