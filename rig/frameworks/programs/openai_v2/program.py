"""A hand-written loop around OpenAI's client, traced by OpenTelemetry's instrumentation with content in log events."""

from __future__ import annotations

import os
from typing import Any

import loop
import openai
import shop
import tracing
from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.trace import SpanKind

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
logs = LoggerProvider(resource=tracing.RESOURCE)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=tracing.RESOURCE)
metrics.set_meter_provider(meters)
OpenAIInstrumentor().instrument(tracer_provider=tracing.provider, logger_provider=logs, meter_provider=meters)
client = openai.OpenAI(max_retries=0)

LOOKING_UP = {"order_lookup": shop.order_lookup, "stock_level": shop.stock_level}


def ask_billing_desk(task: str) -> str:
    return loop.answer(client, "billing_desk", task, {"refund": shop.refund})


def main() -> Any:
    # Without a common parent span, each call of the model would be a separate trace.
    with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask", kind=SpanKind.SERVER):
        if shop.CASE == "hand_over":
            return loop.answer(client, "front_desk", shop.question(), {"ask_billing_desk": ask_billing_desk})
        if shop.CASE == "two_agents":
            return {name: loop.answer(client, name, asked, LOOKING_UP) for name, asked in shop.QUESTIONS.items()}
        return loop.answer(client, "order_desk", shop.question(), LOOKING_UP)


def flush() -> None:
    tracing.flush()
    logs.force_flush()
    meters.shutdown()


shop.run(main, flush)
