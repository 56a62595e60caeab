"""Keeps the tables true: see `Reconciler`."""

from __future__ import annotations

from tracker.temporal.reconcile.pace import ReconcilerCounters, ReconcilerOptions
from tracker.temporal.reconcile.reconciler import Reconciler

__all__ = ["Reconciler", "ReconcilerCounters", "ReconcilerOptions"]
