"""Accepted means it will run, once: a start is committed in Postgres before Temporal is called.

`start_in_transaction` does that inside the caller's own transaction; the `Relay` brings to Temporal
what was committed and not yet started.
"""

from __future__ import annotations

from tracker.outbox.relay import Relay, RelayCounters, RelayOptions
from tracker.outbox.starting import Outcome, Refused, Retry, Started, Starter, try_start
from tracker.outbox.transactional import (
    Encoder,
    StartOptions,
    insert_start,
    start_in_transaction,
    start_in_transaction_async,
)

__all__ = [
    "Encoder",
    "Outcome",
    "Refused",
    "Relay",
    "RelayCounters",
    "RelayOptions",
    "Retry",
    "StartOptions",
    "Started",
    "Starter",
    "insert_start",
    "start_in_transaction",
    "start_in_transaction_async",
    "try_start",
]
