"""Calls as programs written for Flowflare make them."""

from __future__ import annotations

import json
from typing import Any

import httpx


async def call(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def start(client: httpx.AsyncClient, name: str = "nightly", **given: Any) -> str:
    answer = await call(client, "/service/start-workflow", workflowType=name, **given)
    assert answer["success"] is True
    return answer["workflowId"]


async def workflow(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    return (await call(client, "/service/get-workflow", workflowId=run_id))["workflow"]


async def update(client: httpx.AsyncClient, kind: str, **fields: Any) -> dict[str, Any]:
    return await call(client, "/api/workflows/update", type=kind, **{kind: fields})


async def refused(client: httpx.AsyncClient, path: str, body: Any) -> tuple[int, str]:
    answer = await client.post(path, json=body)
    told = answer.json()
    assert told["success"] is False
    return answer.status_code, told["error"]


async def track_step(
    client: httpx.AsyncClient, run_id: str, name: str, index: int, fails: int = 0
) -> None:
    """What the published helper sends, call by call."""

    async def step(**fields: Any) -> None:
        fields |= {"workflow_run_id": run_id, "step_name": name, "step_index": index}
        assert (await update(client, "step_update", **fields))["success"] is True

    for attempt in range(1, fails + 1):
        await step(status="Running", state=None, started_at=f"2026-03-01T12:00:0{attempt}.000Z")
        retry_at = f"2026-03-01T12:00:0{attempt}.500Z"
        retry = {"count": attempt, "maxRetries": 3, "nextRetryAt": retry_at}
        state = json.dumps({"error": f"boom {attempt}", "retry": retry}, separators=(",", ":"))
        await step(status="Retrying", state=state)
        answer = await update(
            client,
            "retry_update",
            workflow_step_id=index,
            retry_count=attempt,
            retry_at=retry_at,
            last_error=f"boom {attempt}",
        )
        assert answer["result"]["inserted"] is True
    await step(status="Running", state=None, started_at="2026-03-01T12:00:09.000Z")
    await step(status="Completed", state='{"sent":1}', completed_at="2026-03-01T12:00:10.000Z")
