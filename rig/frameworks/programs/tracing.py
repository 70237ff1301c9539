"""OpenTelemetry set up as in its documentation: batches of spans by OTLP over HTTP, to the environment's endpoint."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from shop import SERVICE

RESOURCE = Resource.create({"service.name": SERVICE, "service.version": "1.4.0", "deployment.environment.name": "test"})
provider = TracerProvider(resource=RESOURCE)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)


def flush() -> None:
    """Export all spans that have ended and are not exported yet."""
    provider.force_flush()
