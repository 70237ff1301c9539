"""A program that exports traces, logs and metrics to the endpoint in its environment variables.

Its argument is `http` or `grpc`; it prints the id of its trace, and ends with 1 if OpenTelemetry reported a problem.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, format_trace_id

QUESTION, ANSWER = "Where is order A-1?", "I cannot find it."
ERROR = "the order service did not answer"


class _Problems(logging.Handler):
    """Counts and prints the warnings and errors of OpenTelemetry."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Print and count a report."""
        self.count += 1
        print(record.getMessage(), file=sys.stderr)


def exporters(protocol: str) -> tuple[Any, Any, Any]:
    """Return the exporters of spans, log records and metrics, set up by the environment alone."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        return GrpcSpans(), GrpcLogs(), GrpcMetrics()
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(), OTLPLogExporter(), OTLPMetricExporter()


def main(protocol: str) -> int:
    """Run an agent whose tool fails."""
    problems = _Problems(logging.WARNING)
    logging.getLogger("opentelemetry").addHandler(problems)
    spans, records, points = exporters(protocol)
    traced, logged = TracerProvider(), LoggerProvider()
    traced.add_span_processor(BatchSpanProcessor(spans))
    logged.add_log_record_processor(BatchLogRecordProcessor(records))
    measured = MeterProvider([PeriodicExportingMetricReader(points)])
    tracer, log, meter = traced.get_tracer("agent"), logged.get_logger("agent"), measured.get_meter("agent")
    turns = meter.create_counter("turns")

    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop-agent"}
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-x"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "order_lookup"}
    with tracer.start_as_current_span("invoke_agent", attributes=agent) as root:
        log.emit(LogRecord(body="the agent starts", severity_number=SeverityNumber.INFO))
        with tracer.start_as_current_span("chat", attributes=chat):
            log.emit(LogRecord(event_name="gen_ai.user.message", body={"role": "user", "content": QUESTION}))
            log.emit(LogRecord(event_name="gen_ai.choice", body={"index": 0, "message": {"content": ANSWER}}))
            turns.add(1)
        with tracer.start_as_current_span("tool", attributes=tool) as call:
            log.emit(LogRecord(severity_number=SeverityNumber.ERROR, exception=TimeoutError(ERROR)))
            call.set_status(Status(StatusCode.ERROR))
    log.emit(LogRecord(body="a line without a trace"))
    for provider in (traced, logged, measured):
        assert provider.force_flush()
        provider.shutdown()
    print(format_trace_id(root.get_span_context().trace_id), flush=True)
    return 1 if problems.count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
