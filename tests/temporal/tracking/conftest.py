"""The tracked client of each test."""

from __future__ import annotations

import logging
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


@pytest.fixture(scope="session")
def tracking_database(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """DSN of the database of most tests here; their namespaces keep them apart. A clone for each
    would take longer than the test."""
    postgres_server.create_database("tracking", template=migrated_template)
    yield postgres_server.dsn("tracking")
    postgres_server.drop_database("tracking")


@pytest.fixture
def tracked(
    temporal_client: Client,
    tracking_database: str,
    tmp_path: Path,
    heard: list[TrackerEvent],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Tracked]:
    """A tracked client in a fresh namespace; fails the test if the tracker itself had trouble."""
    tracked = Tracked(temporal_client, tracking_database, tmp_path / "spill", heard)
    yield tracked
    records = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
    trouble = [r for r in records if r.name.startswith("tracker") and r.levelno >= logging.WARNING]
    assert tracked.expects_trouble or not trouble, [r.getMessage() for r in trouble]
