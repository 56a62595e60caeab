"""A relay in a process of its own, until its input ends. Arguments: DSN, address, namespace."""

from __future__ import annotations

import asyncio
import sys

from temporalio.client import Client

from tracker.outbox import Relay, RelayOptions
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.starter import TemporalStarter

OVERLAPPING = RelayOptions(poll=0.05, lease=0.2)
"""Leases that end while a try is under way, so that relays do each other's work twice."""


async def main(dsn: str, address: str, namespace: str) -> None:
    client = await Client.connect(address, namespace=namespace)
    async with (
        Database(DatabaseOptions(dsn)) as database,
        Relay(database, namespace, TemporalStarter(client), OVERLAPPING),
    ):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
