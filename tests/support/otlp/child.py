"""A program without relab's code: it uses only OpenTelemetry and its environment variables.

It prints the id of its trace, and ends with 1 if the export failed.
"""

from __future__ import annotations

import sys

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from support.otlp.agents import found_order, run_shop_agent
from support.otlp.sdk import RecordingExporter


def main() -> int:
    """Run the agent once."""
    exporter = RecordingExporter(OTLPSpanExporter())
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    run_shop_agent(provider.get_tracer("child"), found_order, conversation_id="conversation of a child")
    provider.shutdown()
    print(exporter.traces[0].id, flush=True)
    return 0 if set(exporter.results) == {SpanExportResult.SUCCESS} else 1


if __name__ == "__main__":
    sys.exit(main())
