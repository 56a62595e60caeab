"""The tracked client of each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client

from tests.temporal.tracking.harness import Tracked
from tracker.core.events import TrackerEvent
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.recorder.recorder import Recorder


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[TrackerEvent]:
    """Every event that a recorder of this process took in, in order."""
    events: list[TrackerEvent] = []
    record = Recorder.record

    def listening(recorder: Recorder, event: TrackerEvent) -> None:
        events.append(event)
        record(recorder, event)

    monkeypatch.setattr(Recorder, "record", listening)
    return events


@pytest.fixture
def clones(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[list[str]]:
    """Names of databases that the test makes on the way; dropped at its end."""
    names: list[str] = []
    yield names
    for name in names:
        postgres_server.drop_database(name)


@pytest.fixture
def tracked(
    temporal_client: Client,
    database: str,
    tmp_path: Path,
    heard: list[TrackerEvent],
    clones: list[str],
    postgres_server: EmbeddedPostgres,
    migrated_template: str,
) -> Tracked:
    """A tracked client on a fresh database and a fresh namespace."""

    def clone() -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        postgres_server.create_database(name, template=migrated_template)
        clones.append(name)
        return postgres_server.dsn(name)

    return Tracked(temporal_client, database, tmp_path / "spill", clone, heard)
