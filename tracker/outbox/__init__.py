"""Accepted means it will run, once: a start is committed in Postgres before Temporal is called.

`start_in_transaction` and `signal_in_transaction` do that inside the caller's own transaction; the
`Relay` brings to Temporal what was committed and not yet confirmed.
"""

from __future__ import annotations

from tracker.outbox.relay import Relay, RelayCounters, RelayOptions
from tracker.outbox.signaling import Carrier, Delivered, Signaler, SignalOutcome, try_signal
from tracker.outbox.starting import Outcome, Poison, Refused, Retry, Started, Starter, try_start
from tracker.outbox.transactional import (
    Encoder,
    StartOptions,
    insert_start,
    start_in_transaction,
    start_in_transaction_async,
)
from tracker.outbox.transactional_signals import (
    SignalEncoder,
    signal_in_transaction,
    signal_in_transaction_async,
)

__all__ = [
    "Carrier",
    "Delivered",
    "Encoder",
    "Outcome",
    "Poison",
    "Refused",
    "Relay",
    "RelayCounters",
    "RelayOptions",
    "Retry",
    "SignalEncoder",
    "SignalOutcome",
    "Signaler",
    "StartOptions",
    "Started",
    "Starter",
    "insert_start",
    "signal_in_transaction",
    "signal_in_transaction_async",
    "start_in_transaction",
    "start_in_transaction_async",
    "try_signal",
    "try_start",
]
