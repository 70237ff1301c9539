"""Log records: which are events of spans, the fields of such an event, and its effect on the span."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from relab.telemetry.models import StepStatus
from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.logs import ReceivedLog, decode_logs, read_event, with_events
from relab.telemetry.otlp.spans import SpanEvent, read_span
from support.otlp.logs import ERROR, INFO, encode_logs, exception_log, log
from support.otlp.traces import CHAT, TOOL, Trace, at, span_id

TRACE = Trace("unit logs")


def received(record: LogRecord) -> ReceivedLog:
    """Decode a request with this one record, and return the record received."""
    batch = decode_logs(encode_logs([record]), "protobuf")
    assert batch.rejections.count == 0
    [found] = batch.traces[TRACE.id]
    return found


def facts(name: str, role: dict[str, Any], **status: Any) -> tuple[SpanFacts, bytes]:
    raw = TRACE.span(name, None, role, **status).SerializeToString()
    return facts_of(read_span(raw), {}), raw


@pytest.mark.parametrize(
    ("record", "is_event"),
    [
        (log(TRACE, "chat", "x", name="gen_ai.user.message"), True),
        (log(TRACE, "chat", "x", {"event.name": "gen_ai.choice"}), True),
        (log(TRACE, "chat", "x", name="gen_ai.client.inference.operation.details", severity=INFO), True),
        (log(TRACE, None, "x", name="gen_ai.choice"), False),
        (log(TRACE, "chat", "x", name="other.event"), False),
        (log(TRACE, "chat", "gen_ai.choice"), False),
        (exception_log(TRACE, "chat", "ValueError", "no"), True),
        (exception_log(TRACE, "chat", "ValueError", "no", severity=0), True),
        (exception_log(TRACE, "chat", "ValueError", "no", severity=ERROR - 1), False),
    ],
)
def test_genai_events_and_exceptions_of_a_span_are_its_events(record: LogRecord, is_event: bool) -> None:
    assert received(record).is_span_event is is_event


@pytest.mark.parametrize(
    ("name", "body", "event_name"),
    [
        ("user_prompt", "claude_code.user_prompt", "claude_code.user_prompt"),
        ("timeout", "No answer: shop.timeout", "timeout"),
        ("gen_ai.choice", "see gen_ai.gen_ai.choice", "gen_ai.choice"),
    ],
)
def test_body_completes_the_name_of_an_event_only_by_a_known_prefix(name: str, body: str, event_name: str) -> None:
    assert received(log(TRACE, "chat", body, {"event.name": name})).event_name == event_name


def test_an_event_has_the_attributes_and_the_body_of_its_record() -> None:
    body = {"index": 0, "message": {"content": "Sunny", "tool_calls": [{"id": "call_1"}]}}
    event = read_event(log(TRACE, "chat", body, {"gen_ai.system": "openai"}, name="gen_ai.choice").SerializeToString())
    assert event == SpanEvent("gen_ai.choice", at(0.5) // 1_000, {"gen_ai.system": "openai", "body": body})


def test_an_event_without_a_body_has_no_such_attribute() -> None:
    event = read_event(log(TRACE, "chat", None, {"a": 1}, name="gen_ai.choice").SerializeToString())
    assert event.attributes == {"a": 1}


def test_a_text_body_stays_a_text() -> None:
    event = read_event(log(TRACE, "chat", "plain", name="gen_ai.user.message").SerializeToString())
    assert event.attributes == {"body": "plain"}


def test_an_exception_is_named_like_the_event_of_a_span() -> None:
    event = read_event(exception_log(TRACE, "tool", "ValueError", "no").SerializeToString())
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["body"] == "it broke"


def test_record_without_a_time_has_its_observation_time() -> None:
    record = log(TRACE, "chat", "x")
    record.time_unix_nano = 0
    record.observed_time_unix_nano = at(7)
    assert received(record).time_ns == at(7)


def test_record_has_the_same_id_in_both_encodings_and_another_id_elsewhere() -> None:
    record = log(TRACE, "chat", {"a": [1, "x"]}, {"b": True}, name="gen_ai.choice", severity=INFO)
    ids = [
        decode_logs(encode_logs([record], encoding), encoding).traces[TRACE.id][0].record_id
        for encoding in ("protobuf", "json")  # type: ignore[attr-defined]
    ]
    other = decode_logs(encode_logs([record], resource={"service.name": "other"}), "protobuf")
    assert ids[0] == ids[1]
    assert other.traces[TRACE.id][0].record_id != ids[0]


def test_events_of_the_log_follow_those_of_the_span() -> None:
    span = TRACE.span("chat", None, CHAT)
    span.events.add(name="own", time_unix_nano=at(5))
    raw = span.SerializeToString()
    known = facts_of(read_span(raw), {"service.name": "tests"})
    added = SpanEvent("gen_ai.choice", at(1) // 1_000, {"body": "x"})
    [found] = with_events([(known, raw)], {span_id("chat"): [added]})
    assert [event.name for event in found.span.events] == ["own", "gen_ai.choice"]
    assert found.resource == known.resource


def test_spans_without_events_in_the_log_are_not_read_again() -> None:
    known = facts("chat", CHAT)
    [found] = with_events([known], {span_id("other"): [SpanEvent("gen_ai.choice", 0, {})]})
    assert found is known[0]


@pytest.mark.parametrize(
    ("role", "status", "expected"),
    [
        (TOOL, 0, StepStatus.FAILURE),
        (TOOL, 1, StepStatus.SUCCESS),
        (TOOL, 2, StepStatus.FAILURE),
        (CHAT, 0, StepStatus.SUCCESS),
        (CHAT, 2, StepStatus.FAILURE),
    ],
)
def test_an_exception_of_the_log_fails_only_a_call_without_a_status(
    role: dict[str, Any], status: int, expected: StepStatus
) -> None:
    raised = SpanEvent("exception", 1, {"exception.type": "ValueError", "exception.message": "no"})
    [found] = with_events([facts("span", role, status=status)], {span_id("span"): [raised]})
    assert found.outcome.status is expected
    assert found.outcome.error_class == ("ValueError" if expected is StepStatus.FAILURE else None)
