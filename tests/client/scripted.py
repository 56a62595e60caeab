"""A scripted API for tests of the SDK: answers in order, and the bodies of usual answers."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx

RUN = UUID("0198c0de-0000-7000-8000-000000000001")
NEXT = UUID("0198c0de-0000-7000-8000-000000000002")
RUN_BODY = {
    "run_id": str(RUN),
    "namespace": "default",
    "engine": "temporal",
    "workflow_type": "Order",
    "workflow_id": "Order/1",
    "status": "running",
    "ordered_at": "2026-01-31T00:00:00Z",
    "a_field_of_a_newer_server": 1,
}


class Script:
    """Answers requests one after the other and keeps them; an exception is raised instead."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        # A copy, because a response can be read by one client only.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]


def ok(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


def started() -> httpx.Response:
    return httpx.Response(201, json=RUN_BODY)


def failed(status: int, code: str, error_class: str, **headers: str) -> httpx.Response:
    body = {"error": code, "message": "do this", "class": error_class, "details": {"field": "x"}}
    return httpx.Response(status, json=body, headers=headers)


def unavailable(**headers: str) -> httpx.Response:
    return failed(503, "database_unavailable", "transient", **headers)


def result(status: str, **fields: Any) -> httpx.Response:
    done = status not in ("accepted", "running")
    return ok(**{"run_id": str(RUN), "status": status, "done": done} | fields)
