"""OpenTelemetry of the programs: spans by Temporal's own interceptor and FastAPI's instrumentation,
sent by OTLP. All else is OpenTelemetry's own settings (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, …).

The trace id of a request goes with the start that it asks for, through the outbox, to the workflow
and its activities, and is on record with each attempt.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tracker.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where spans go.

    Attributes:
        provider: OpenTelemetry's `TracerProvider`.
    """

    provider: Any

    def interceptors(self) -> list[Any]:
        """For Temporal clients, and the workers of those."""
        from temporalio.contrib.opentelemetry import TracingInterceptor

        return [TracingInterceptor(self.provider.get_tracer("flowtrail"))]

    def instrument(self, app: Any) -> None:
        """Give each request to a FastAPI app a span; health checks and scrapes have none."""
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            app, tracer_provider=self.provider, excluded_urls="healthz,readyz,metrics"
        )


@contextmanager
def tracing(service: str, *, enabled: bool) -> Generator[Tracing | None]:
    """Send spans meanwhile, if enabled; what is still held is sent at the end.

    Args:
        service: Name, unless OTEL_SERVICE_NAME says otherwise.

    Raises:
        ConfigurationError: The packages are missing.
    """
    if not enabled:
        yield None
        return
    provider = _provider(service)
    try:
        yield Tracing(provider)
    finally:
        provider.shutdown()


def _provider(service: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            "FLOWTRAIL_TRACING needs OpenTelemetry: pip install 'flowtrail[tracing]'"
        ) from error
    given = Resource({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=given)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
