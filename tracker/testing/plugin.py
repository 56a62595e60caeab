"""The pytest plugin: fixture `flowtrail`, an environment of its own for each test.

    async def test_order(flowtrail):
        async with flowtrail.worker(workflows=[Order], activities=[charge]):
            with tracked_ref("order", "o-1"):
                await flowtrail.client.execute_workflow(...)
        await flowtrail.assert_run("order/o-1", steps=["reserve", "charge"])

pytest imports this file in every project that has flowtrail installed, so it imports nothing heavy
before a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tracker.testing.environment import TrackedEnvironment, TrackedServers


@pytest.fixture(scope="session")
def flowtrail_servers() -> Iterator[TrackedServers]:
    """The session's PostgreSQL, with a migrated template database, and Temporal server."""
    from tracker.embedded.scratch import scratch_root
    from tracker.testing.environment import started_servers

    with (
        TemporaryDirectory(prefix="flowtrail-", dir=scratch_root()) as folder,
        started_servers(Path(folder)) as servers,
    ):
        yield servers


@pytest.fixture
def flowtrail(flowtrail_servers: TrackedServers, tmp_path: Path) -> Iterator[TrackedEnvironment]:
    """A fresh database and Temporal namespace, with everything started in it tracked."""
    from tracker.testing.environment import tracked_environment

    with tracked_environment(flowtrail_servers, tmp_path / "spill") as environment:
        yield environment
