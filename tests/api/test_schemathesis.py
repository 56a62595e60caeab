"""Generated requests, right and wrong ones, for every operation of the OpenAPI document, against a
real server and a real Temporal: never a 500, and no answer that the document does not know."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.main import create_app
from tests.api.conftest import api_settings
from tests.api.over_http import listening
from tests.api.test_auth import RULES
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal

EXAMPLES = 10
"""Of each operation and mode; all of them together take about half a minute."""

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def base_url(
    postgres_server: EmbeddedPostgres,
    migrated_template: str,
    temporal_server: EmbeddedTemporal,
) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    postgres_server.create_database(name, template=migrated_template)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
        monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")
        with listening(api_settings(postgres_server.dsn(name))) as url:
            yield url
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def run_id(base_url: str) -> str:
    """A run that exists, so that not every request ends in "not found"."""
    started = {"workflow_type": "A", "task_queue": "nobody", "input": {"a": 1}}
    answer = requests.post(f"{base_url}/v1/runs", json=started, timeout=10)
    assert answer.status_code == 201, answer.text
    return answer.json()["run_id"]


@cache
def described(base_url: str) -> Any:
    """The API's document, read once: that takes longer than most requests."""
    document = create_app(api_settings("postgresql://nowhere/x")).openapi()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=base_url)
    return schema


# What takes no key takes no parameter either: there is nothing to get wrong.
ENDLESS = {"watch"}
OPERATIONS = [(name, GenerationMode.POSITIVE) for name in sorted(RULES.keys() - ENDLESS)] + [
    (name, GenerationMode.NEGATIVE)
    for name, scope in sorted(RULES.items())
    if scope and name not in ENDLESS
]


@pytest.mark.parametrize(("name", "mode"), OPERATIONS)
def test_operation(base_url: str, run_id: str, name: str, mode: GenerationMode) -> None:
    operation = described(base_url).find_operation_by_id(name)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def exercise(case: schemathesis.Case) -> None:
        if case.path_parameters and "run_id" in case.path_parameters and len(case.id) % 2:
            case.path_parameters["run_id"] = run_id
        if case.query and isinstance(case.query.get("wait"), int | float):
            case.query["wait"] = min(case.query["wait"], 0.05)
        response = case.call(timeout=30)
        case.validate_response(response, checks=CHECKS)

    exercise()
