"""Starts both servers in the folder given, prints their pids, and waits to be killed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tracker.embedded.postgres import EmbeddedPostgres
from tracker.embedded.temporal import EmbeddedTemporal


def main(folder: Path) -> None:
    with (
        EmbeddedPostgres.start(folder / "postgres", durable=False) as postgres,
        EmbeddedTemporal.start(folder / "temporal.db", headless=True) as temporal,
    ):
        postgres.create_database("kept", exist_ok=True)
        print(json.dumps([postgres.pid, temporal.pid]), flush=True)  # noqa: T201 - for the test
        while True:  # `signal.pause` sleeps for ever if the signal comes right before it.
            time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
