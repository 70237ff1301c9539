"""Tokens and cost that OTLP exports report, counted once."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relab.core.errors import MalformedBodyError
from relab.telemetry.otlp.reported_usage import ReportedUsage, usage_of_exports
from relab.telemetry.prices.models import Price, PriceTable
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, at, body_of, span

USAGE = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, "gen_ai.usage.cost": 0.25}


def test_usage_of_model_calls_is_added_up_over_exports_and_traces() -> None:
    first = body_of([span("agent", attributes=AGENT), span("call", parent="agent", attributes=CHAT | USAGE)])
    second = body_of([span("call2", parent="agent", attributes=CHAT | USAGE)])
    of_another_trace = span("call", attributes=CHAT | USAGE)
    of_another_trace.trace_id = b"another-trace-16"
    other = body_of([of_another_trace])

    found = usage_of_exports([(first, "protobuf"), (second, "protobuf"), (other, "protobuf")])

    assert found == ReportedUsage(300, 60, 0.75)


def test_span_that_is_exported_twice_or_repeated_by_its_agent_is_counted_once() -> None:
    body = body_of([span("agent", attributes=AGENT | USAGE), span("call", parent="agent", attributes=CHAT | USAGE)])
    message = ExportTraceServiceRequest.FromString(body)

    assert usage_of_exports([(body, "protobuf"), (body, "protobuf")]) == ReportedUsage(100, 20, 0.25)
    assert usage_of_exports([(otlp_json(message), "json")]) == ReportedUsage(100, 20, 0.25)


def test_reports_of_one_span_with_different_attributes_are_joined() -> None:
    tokens = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}
    parts = [CHAT | tokens, CHAT | {"gen_ai.usage.cost": 0.25}]

    found = usage_of_exports([(body_of([span("call", attributes=part)]), "protobuf") for part in parts])

    assert found == ReportedUsage(100, 20, 0.25)


def test_cost_is_estimated_from_tokens_only_if_no_span_reports_a_cost_and_every_price_is_known() -> None:
    prices = PriceTable(
        [Price(provider="p", model="m", input=1.0, output=10.0, as_of=dt.date(2026, 1, 1), source="test")]
    )
    tokens = {"gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.output_tokens": 200}

    def estimated(*calls: dict[str, object]) -> float | None:
        spans = []
        for number, attributes in enumerate(calls):
            spans.append(span(f"call {number}", attributes=CHAT | attributes))
            spans[-1].trace_id = f"trace-of-16-by-{number}".encode()
        return usage_of_exports([(body_of(spans), "protobuf")], prices=prices).estimated_cost_usd

    priced = tokens | {"gen_ai.request.model": "m"}
    assert estimated(priced, priced) == pytest.approx(2 * (1_000 * 1 + 200 * 10) / 1e6)
    assert estimated(priced, priced | {"gen_ai.usage.cost": 0.25}) is None
    assert estimated(priced, tokens | {"gen_ai.request.model": "another"}) is None
    assert estimated({}) is None
    body = body_of([span("call", attributes=CHAT | priced)])
    assert usage_of_exports([(body, "protobuf")]).estimated_cost_usd is None


def otlp_json(message: ExportTraceServiceRequest) -> bytes:
    """Return a request in OTLP's JSON encoding, in which ids are hex."""
    document = json_format.MessageToDict(message)
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    for item, sent in zip(spans, message.resource_spans[0].scope_spans[0].spans, strict=True):
        item |= {
            "traceId": sent.trace_id.hex(),
            "spanId": sent.span_id.hex(),
            "parentSpanId": sent.parent_span_id.hex(),
        }
    return json.dumps(document).encode()


def test_spans_from_before_the_given_time_are_left_out() -> None:
    early = span("early", attributes=CHAT | USAGE, start=0, end=10)
    late = span("late", attributes=CHAT | USAGE, start=50, end=60)

    assert usage_of_exports([(body_of([early, late]), "protobuf")], from_us=at(20) // 1_000).tokens_prompt == 100


def test_spans_without_usage_report_nothing_and_an_unreadable_export_is_an_error() -> None:
    assert usage_of_exports([(body_of([span("tool", attributes=TOOL)]), "protobuf")]) == ReportedUsage(None, None, None)
    assert usage_of_exports([]) == ReportedUsage(None, None, None)
    with pytest.raises(MalformedBodyError):
        usage_of_exports([(b"not a request", "protobuf")])
