"""Changes a run's metadata on behalf of people; what they say stays on top of what the run says.

The row is locked before anything is derived from it, so that labels always follow the metadata that
won.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tracker.errors import Conflict, NotFound
from tracker.models.wire import RunRead
from tracker.store import queries
from tracker.store.database import Database
from tracker.store.record import LABEL_MAX
from tracker.store.run_rows import run_read


async def patch_metadata(database: Database, run_id: UUID, patch: Mapping[str, Any]) -> RunRead:
    """Set and take away keys.

    Args:
        run_id: Ours.
        patch: Key → value; None takes the key away.

    Raises:
        NotFound: There is no such run.
        Conflict: It was erased.
    """
    sql = queries.load("metadata")
    parameters = {"run_id": run_id, "patch": json.dumps(dict(patch))}
    async with database.connection() as connection, connection.transaction():
        cursor = await connection.execute(database.sql(sql["patch_metadata"]), parameters)
        row = await cursor.fetchone()
        if row is None:
            raise NotFound(f"there is no run {run_id}")
        if row["erased_at"] is not None:
            raise Conflict(f"run {run_id} was erased: nothing is written to it any more")
        labels = {"run_id": run_id, "label_max": LABEL_MAX}
        await connection.execute(database.sql(sql["drop_labels"]), labels)
        await connection.execute(database.sql(sql["write_labels"]), labels)
    return run_read(row)
