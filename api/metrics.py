"""What Prometheus scrapes. Each app has a registry of its own, so that tests and two apps in one
process do not share counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Numbers = Callable[[], Mapping[str, float]]
"""Tells a component's current numbers by name."""
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


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
        self.outbox = Gauge(
            "flowtrail_outbox_size",
            "Accepted starts and signals that Temporal has not confirmed; counted up to 10,001.",
            registry=self.registry,
        )
        self.outbox_dead = Gauge(
            "flowtrail_outbox_dead",
            "Those of them that are given up until somebody revives or drops them.",
            registry=self.registry,
        )

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

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


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
