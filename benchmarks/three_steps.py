"""The workload of the overhead benchmark: three trivial activities in a row, about 300 bytes of
JSON in and out of each, 23 history events. Trivial work shows tracking at its dearest."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

ITEM = {
    "id": "o-123",
    "lines": [{"sku": f"sku-{n}", "quantity": n, "note": "x" * 20} for n in range(4)],
}


@activity.defn
async def echo(item: dict[str, Any]) -> dict[str, Any]:
    """Give back what came in."""
    return item


@workflow.defn
class ThreeSteps:
    """echo → echo → echo."""

    @workflow.run
    async def run(self, item: dict[str, Any]) -> dict[str, Any]:
        """Pass the item through three activities."""
        for _ in range(3):
            item = await workflow.execute_activity(
                echo, item, start_to_close_timeout=timedelta(seconds=30)
            )
        return item
