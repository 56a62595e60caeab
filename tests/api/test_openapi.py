"""The OpenAPI document: what it promises is there, and it promises everything there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api.main import create_app
from api.openapi import START_EXAMPLES
from api.routes.health import router as health_router
from tests.api.conftest import api_settings
from tests.api.test_auth import RULES
from tracker.client import AsyncTrackerClient, TrackerClient
from tracker.models.wire import StartRun

ERROR = {"$ref": "#/components/schemas/ErrorBody"}
WITHOUT_SDK = {"health", "metrics"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(api_settings("postgresql://nowhere/x")).openapi()


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def test_operations_are_named_like_the_methods_of_the_sdk(document: dict[str, Any]) -> None:
    assert health_router.routes
    for operation in operations(document):
        name = operation["operationId"]
        for client in (AsyncTrackerClient, TrackerClient):
            assert name in WITHOUT_SDK or callable(getattr(client, name)), name


def test_every_operation_declares_its_errors(document: dict[str, Any]) -> None:
    for operation in operations(document):
        answers = operation["responses"]
        if RULES[operation["operationId"]] is not None:
            assert {"401", "403"} <= set(answers), operation["operationId"]
        for status, answer in answers.items():
            if int(status) >= 400:
                assert answer["content"]["application/json"]["schema"] == ERROR


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"], operation["operationId"]


def test_every_filter_is_a_parameter(document: dict[str, Any]) -> None:
    names = {p["name"] for p in document["paths"]["/v1/runs"]["get"]["parameters"]}
    assert {"ref_type", "status", "metadata.{key}", "started_after", "order", "cursor"} <= names


@pytest.mark.parametrize("name", START_EXAMPLES)
def test_examples_are_valid(name: str) -> None:
    StartRun.model_validate(START_EXAMPLES[name].get("value"))
