"""The exporter of OpenTelemetry's Python SDK, which sends to relab and records its spans and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer, format_span_id, format_trace_id

SERVICE = {"service.name": "shop", "service.version": "2.1.0", "deployment.environment.name": "staging"}


@dataclass(frozen=True)
class SentTrace:
    """The spans of one trace as the SDK exported them, ordered by start."""

    id: str
    spans: list[ReadableSpan]

    def span(self, name: str, nth: int = 0) -> ReadableSpan:
        """Return the span with this name at position `nth`, counted from 0."""
        return [span for span in self.spans if span.name == name][nth]

    def id_of(self, name: str, nth: int = 0) -> str:
        """Return the hex id of the span with this name at position `nth`, counted from 0."""
        return span_id(self.span(name, nth))

    def of_kind(self, *kinds: str) -> dict[str, str]:
        """Return the names of all spans of these OpenInference kinds by span id."""
        return {
            span_id(span): span.name
            for span in self.spans
            if span.attributes is not None and span.attributes.get("openinference.span.kind") in kinds
        }


class RecordingExporter(SpanExporter):
    """Passes spans to an exporter and records them and the results."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.results: list[SpanExportResult] = []
        self._exporter = exporter
        self._spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans."""
        self._spans += spans
        self.results.append(self._exporter.export(spans))
        return self.results[-1]

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()

    @property
    def traces(self) -> list[SentTrace]:
        """The exported traces, ordered by their start."""
        by_trace: dict[str, list[ReadableSpan]] = {}
        for span in sorted(self._spans, key=lambda span: span.start_time or 0):
            by_trace.setdefault(format_trace_id(span.get_span_context().trace_id), []).append(span)
        return [SentTrace(trace_id, spans) for trace_id, spans in by_trace.items()]


@dataclass(frozen=True)
class Telemetry:
    """The OpenTelemetry set-up of a program."""

    provider: TracerProvider
    exporter: RecordingExporter

    @property
    def tracer(self) -> Tracer:
        """The tracer of the program."""
        return self.provider.get_tracer("shop.agent", "2.1.0")

    def flush(self) -> list[SentTrace]:
        """Export all ended spans and return all traces so far; every request must have succeeded."""
        assert self.provider.force_flush()
        assert self.exporter.results
        assert set(self.exporter.results) == {SpanExportResult.SUCCESS}
        return self.exporter.traces

    def only_trace(self) -> SentTrace:
        """Export all ended spans, which must form one trace, and return it."""
        (trace,) = self.flush()
        return trace


@contextmanager
def telemetry_to(
    url: str, *, compression: Compression = Compression.NoCompression, span_by_span: bool = False
) -> Iterator[Telemetry]:
    """Set up OpenTelemetry as in its documentation, with the server at `url` as the endpoint.

    Args:
        span_by_span: export each span in a separate request when it ends; else in batches.
    """
    # The default, 10 s for all retries, is too short for a busy machine that restarts a database meanwhile.
    exporter = RecordingExporter(OTLPSpanExporter(f"{url}/v1/traces", compression=compression, timeout=60))
    provider = TracerProvider(resource=Resource.create(SERVICE), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter) if span_by_span else BatchSpanProcessor(exporter))
    try:
        yield Telemetry(provider, exporter)
    finally:
        provider.shutdown()


def span_id(span: ReadableSpan) -> str:
    """Return the id of a span in hex."""
    return format_span_id(span.get_span_context().span_id)
