"""What Prometheus scrapes. Each app has a registry of its own, so that tests and two apps in one
process do not share counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tracker.models.stats import Stats

Numbers = Callable[[], Mapping[str, float]]
"""Tells a component's current numbers by name."""
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


STATE = {
    "outbox_size": "Accepted starts and signals that Temporal has not confirmed, up to 10,001.",
    "outbox_dead": "Those of them that are given up until somebody revives or drops them.",
    "outbox_oldest_seconds": "Age of the oldest of them that is not dead.",
    "reconcile_lag_seconds": "Age of the earliest close that the last round had to project.",
    "reconcile_since_round_seconds": "Since the namespace's reconciler last finished a round.",
    "runs_unverified": "Closed runs that history has not confirmed yet, up to 10,001.",
    "runs_oldest_unverified_seconds": "Since the first of those closed.",
    "recorders_alive": "Workers' recorders that reported within two minutes.",
    "recorders_spill_bytes": "In the spill files of those.",
    "recorders_dropped": "Events lost by recorders that reported within a day.",
    "recorders_poisoned": "Events of theirs that the database refuses.",
    "runs_unverifiable": "Closed runs whose history was gone before it was read, up to 10,001.",
}
"""Gauges that one query of the database answers; NaN while it is away, or of what never was."""


class Metrics:
    """Counters of one API process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "flowtrail_http_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "flowtrail_http_request_seconds",
            "Time until the answer was complete.",
            ["method", "route"],
            buckets=_LATENCY,
            registry=self.registry,
        )
        self._state = {
            name: Gauge(f"flowtrail_{name}", help_text, registry=self.registry)
            for name, help_text in STATE.items()
        }

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            route: Its template (`/v1/runs/{run_id}`), never the path: labels must stay few.
        """
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def add(self, prefix: str, help_text: str, numbers: Numbers, *, monotonic: bool) -> None:
        """Show a component's own numbers, read at each scrape.

        Args:
            monotonic: Whether they only grow: counters, else gauges.
        """
        family = CounterMetricFamily if monotonic else GaugeMetricFamily
        self.registry.register(_Numbers(family, prefix, help_text, numbers))

    def show(self, stats: Stats | None) -> None:
        """Show how the tracker is doing; None: unknown now."""
        for name, value in _state(stats).items():
            self._state[name].set(nan if value is None else value)

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


def _state(stats: Stats | None) -> dict[str, float | None]:
    if stats is None:
        return dict.fromkeys(STATE)
    return {
        "outbox_size": stats.outbox.size,
        "outbox_dead": stats.outbox.dead,
        "outbox_oldest_seconds": stats.outbox.oldest_seconds or 0.0,
        "reconcile_lag_seconds": stats.reconciler.lag_seconds,
        "reconcile_since_round_seconds": stats.reconciler.since_round_seconds,
        "runs_unverified": stats.unverified,
        "runs_oldest_unverified_seconds": stats.oldest_unverified_seconds or 0.0,
        "runs_unverifiable": stats.unverifiable,
        "recorders_alive": stats.recorders.alive,
        "recorders_spill_bytes": stats.recorders.spill_bytes,
        "recorders_dropped": stats.recorders.dropped,
        "recorders_poisoned": stats.recorders.poisoned,
    }


class _Numbers(Collector):
    def __init__(
        self, family: Callable[..., Metric], prefix: str, help_text: str, numbers: Numbers
    ) -> None:
        self._family, self._prefix = family, prefix
        self._help, self._numbers = help_text, numbers

    def collect(self) -> list[Metric]:
        """See `Collector`."""
        return [
            self._family(f"{self._prefix}_{name}", self._help, value=value)
            for name, value in self._numbers().items()
        ]
