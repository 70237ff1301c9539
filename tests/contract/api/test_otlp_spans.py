"""Invalid spans in OTLP exports: each is rejected alone, and the other spans of the request are stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.testclient import TestClient

from support.api.client import assert_problem
from support.otlp.traces import (
    CHAT,
    ENCODINGS,
    Encoding,
    Trace,
    assert_counted,
    assert_refused,
    assert_stored,
    assert_taken,
    at,
    digest,
    encode,
    export_of,
    field,
    json_of,
    packed_body,
    pairs,
    post,
    span_id,
    span_lists,
    stored_spans,
)
from support.telemetry.runs import failed_run

pytestmark = pytest.mark.usefixtures("the_api_goes_on")
YEAR_NS = 31_557_600 * 10**9
START, END = "start_time_unix_nano", "end_time_unix_nano"
BAD_ID = span_id("bad")


def put(field: str, value: Any) -> Callable[[Span], None]:
    """Return a function that sets a field of a span."""
    return lambda span: setattr(span, field, value)


# Each entry has a function that makes a span invalid, and a word that the reason must contain.
REFUSED: dict[str, tuple[Callable[[Span], Any], str]] = {
    **{
        f"a {name} of {length} bytes": (put(name, b"\x07" * length), name)
        for name, lengths in {"trace_id": (0, 1, 15, 17, 5_000), "span_id": (0, 7, 9, 16), "parent_span_id": (7, 9)}.items()
        for length in lengths
    },
    "a trace id of zeros": (put("trace_id", bytes(16)), "trace_id"),
    "a span id of zeros": (put("span_id", bytes(8)), "span_id"),
    "no start": (put(START, 0), START),
    "a start just after 1970 began": (put(START, 1), START),
    "a start in the year 2300": (put(START, 330 * YEAR_NS), START),
    "the last start there is": (put(START, 2**64 - 1), START),
    "an end in the year 2300": (put(END, 330 * YEAR_NS), END),
    "10,001 attributes": (lambda span: span.attributes.extend(pairs(dict.fromkeys(map(str, range(10_001)), 0))), ""),
    "10,001 events": (lambda span: [span.events.add() for _ in range(10_001)], ""),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_invalid_span_is_rejected_alone(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    for number, (name, (spoil, reason)) in enumerate(REFUSED.items()):
        one = Trace(f"{number} of {trace.name}")
        bad = one.span("bad", "root", CHAT)
        spoil(bad)
        root, chat, tool = one.good()
        refused, message = assert_taken(post(api, encode([root, bad, chat, tool], encoding), encoding))
        assert refused == 1, name
        assert reason.replace("_", "") in message.replace("_", "").lower()
        assert len(message) < 500
        assert_counted(api, one)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_reason_names_the_span(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    for spoil in (put(START, 0), put(START, 330 * YEAR_NS), put("parent_span_id", b"short")):
        bad, other = trace.span("bad", "root", CHAT), trace.span("other", "root", CHAT)
        spoil(bad)
        spoil(other)
        refused, message = assert_taken(post(api, encode([bad, *trace.good(), other], encoding), encoding))
        assert refused == 2
        assert BAD_ID in message
        assert trace.id in message
    assert_stored(api, trace)


def test_invalid_json_ids_are_rejected_with_the_name_of_the_field(api: TestClient, trace: Trace) -> None:
    """Clients that use protobuf's own JSON format send ids in base64, which OTLP forbids."""
    wrong: dict[str, list[Any]] = {
        "traceId": [base64.b64encode(digest("x", 16)).decode(), "z" * 32, "ab" * 15, "ab" * 17, "a" * 31, "", None, 5,
                    ["a"], {}, "0" * 32, "é" * 32, "\x00" * 32, "<b>\x1b[31m" * 500],
        "spanId": [base64.b64encode(digest("x", 8)).decode(), "z" * 16, "ab" * 7, "ab" * 9, "", None, 5, "0" * 16],
        "parentSpanId": [base64.b64encode(digest("x", 8)).decode(), "z" * 16, "ab" * 7, 5, [], {}],
    }  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            body = json_of(export_of([trace.span("bad", "root", CHAT), *trace.good()]))
            span_lists(body)[0][0][name] = value
            refused, message = assert_taken(post(api, json.dumps(body).encode(), "json"))
            assert refused == 1, (name, value)
            assert name.lower() in message.lower().replace("_", ""), message
            assert len(message) < 500
            assert "\x1b" not in message
    assert_stored(api, trace)


def test_invalid_json_times_are_rejected_alone(api: TestClient, trace: Trace) -> None:
    year_1, year_3000 = -62_135_596_800 * 10**9, 32_503_680_000 * 10**9
    bad: list[Any] = [year_1, year_3000, str(year_1), str(year_3000), "now", "", "2024-01-15T10:30:00Z", 1e400, 0.5,
                      True, [], {}, 10**400]  # fmt: skip
    for name in ("startTimeUnixNano", "endTimeUnixNano"):
        for value in bad:
            body = json_of(export_of([trace.span("bad", "root", CHAT), *trace.good()]))
            span_lists(body)[0][0][name] = value
            raw = json.dumps(body).replace("Infinity", "1e400").encode()
            refused, message = assert_taken(post(api, raw, "json"))
            assert refused == 1, (name, value)
            assert message
    assert_stored(api, trace)


def test_response_to_thousands_of_invalid_spans_is_short(api: TestClient, trace: Trace) -> None:
    spans = [trace.span(f"bad-{number}", None, CHAT) for number in range(3_000)]
    for number, span in enumerate(spans):
        (put(START, 0), put("span_id", number.to_bytes(3)), put("trace_id", number.to_bytes(4)))[number % 3](span)
    answer = post(api, encode(spans))
    assert assert_taken(answer)[0] == 3_000
    assert len(answer.content) < 2_000
    assert api.get(f"/agent-runs/{trace.id}").status_code == 404


BAD_TEXT = b"\xff\xfe"
PACKED = Trace("packed").span("bad", "root", CHAT).SerializeToString()[18:]  # the trace id is left out
SPOILED = {
    "a name": PACKED + field(5, BAD_TEXT),
    "a key": PACKED + field(9, field(1, BAD_TEXT) + field(2, b"")),
    "a value": PACKED + field(9, b"\x0a\x01k" + field(2, field(1, BAD_TEXT))),
    "a list": PACKED + field(9, b"\x0a\x01k" + field(2, field(5, field(1, field(1, BAD_TEXT))))),
    "an event": PACKED + field(11, field(2, BAD_TEXT)),
    "a status": PACKED + field(15, field(2, BAD_TEXT)),
    "a trace state": PACKED + field(3, BAD_TEXT),
    "a link": PACKED + field(13, field(3, BAD_TEXT)),
    "a link that is none": PACKED + field(13, b"\xff"),
    "no span at all": b"\xff\xff",
    "half a span": PACKED[: len(PACKED) // 2],
}


@pytest.mark.parametrize("packed", SPOILED.values(), ids=SPOILED)
def test_malformed_span_does_not_affect_others(api: TestClient, trace: Trace, packed: bytes) -> None:
    root, chat, tool = trace.good()
    bad = root.SerializeToString()[:18] + packed
    refused, _ = assert_taken(post(api, packed_body(root, bad, chat, tool)))
    assert refused in {0, 1}
    assert_stored(api, trace, *(["bad"] if refused == 0 else []))
    # A later valid version of the same span is accepted in both cases.
    assert assert_taken(post(api, packed_body(trace.span("bad", "root", CHAT), trace.span("more", "root")))) == (0, "")
    assert_stored(api, trace, "bad", "more")


def deep_body(trace: Trace, kind: str, depth: int, encoding: Encoding) -> bytes:
    """Return an export of good spans and of one whose attribute is nested `depth` levels deep."""
    if encoding == "protobuf":
        value = field(1, b"deep")
        for _ in range(depth):
            value = field(5, field(1, value)) if kind == "lists" else field(6, field(1, b"\x0a\x01k" + field(2, value)))
        bad = trace.span("bad", "root", CHAT).SerializeToString() + field(9, b"\x0a\x01k" + field(2, value))
        return packed_body(bad, *trace.good())
    before, after = {
        "lists": ('{"arrayValue":{"values":[', "]}}"),
        "objects": ('{"kvlistValue":{"values":[{"key":"k","value":', "}]}}"),
    }[kind]
    text = json.dumps(json_of(export_of([trace.span("bad", "root", CHAT | {"k": "DEEP"}), *trace.good()])))
    deep = before * depth + '{"stringValue": "deep"}' + after * depth
    return text.replace('{"stringValue": "DEEP"}', deep).encode()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_deeply_nested_values_do_not_affect_other_spans_or_later_versions(
    api: TestClient, trace: Trace, kind: str, encoding: Encoding
) -> None:
    for depth in (10, 25, 35, 60, 5_000):
        one = Trace(f"{depth} in {trace.name}")
        answer = post(api, deep_body(one, kind, depth, encoding), encoding)
        if answer.status_code == 400 and encoding == "json" and depth > 30:
            # JSON is parsed as a whole, so a value that is nested too deeply makes the body malformed.
            assert "nest" in assert_refused(answer, 400, "json") or "recursion" in answer.text
            continue
        refused, message = assert_taken(answer)
        assert refused == 0 or (depth > 10 and message)
        assert_stored(api, one, *([] if refused else ["bad"]))
        # An accepted span can be merged with a later version.
        assert assert_taken(post(api, packed_body(one.span("bad", "root", CHAT, end_ms=8)))) == (0, "")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_span_that_is_too_large_is_refused_alone(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    large = trace.span("bad", "root", CHAT | {"k": "x" * (8 * 1_048_576)})
    refused, message = assert_taken(post(api, encode([large, *trace.good()], encoding), encoding))
    assert refused == 1
    assert "larger" in message
    assert_stored(api, trace)


def test_a_run_that_was_posted_as_json_is_not_overwritten(api: TestClient, trace: Trace) -> None:
    posted = Trace(f"posted {trace.name}")
    assert api.post("/agent-runs", json=failed_run(posted.id)).status_code == 201
    before = api.get(f"/agent-runs/{posted.id}").json()
    refused, message = assert_taken(post(api, encode([*posted.good(), *trace.good()])))
    assert refused == 3
    assert posted.id in message
    assert trace.id not in message
    assert_stored(api, trace)
    assert api.get(f"/agent-runs/{posted.id}").json() == before
    assert stored_spans(api, posted) == []


def test_a_trace_is_not_overwritten_by_a_posted_run(api: TestClient, trace: Trace) -> None:
    assert assert_taken(post(api, encode(trace.good()))) == (0, "")
    before = assert_stored(api, trace)
    assert_problem(api.post("/agent-runs", json=failed_run(trace.id)), 409)
    assert assert_stored(api, trace) == before


@pytest.mark.full
@pytest.mark.timeout(300)
def test_span_beyond_the_limit_of_a_trace_is_rejected(api: TestClient, trace: Trace) -> None:
    most = 100_000
    for start in range(0, most - 3, 20_000):
        filling = [trace.span(f"s{n}", "root", None) for n in range(start, min(start + 20_000, most - 3))]
        assert assert_taken(post(api, encode(filling))) == (0, "")
    other = Trace(f"other {trace.name}")
    assert assert_taken(post(api, encode([*trace.good(), *other.good()]))) == (0, "")
    # Repeated spans and other traces are accepted; one more span of the full trace is rejected.
    more = trace.span("more", "root", CHAT, start_ms=7)
    refused, message = assert_taken(post(api, encode([*trace.good(), more, *other.good()])))
    assert refused == 1
    assert "100,000" in message
    assert api.get(f"/agent-runs/{trace.id}").json()["counts"] == {"steps": 1, "tool_calls": 1, "guardrail_events": 0}
    assert_stored(api, other)
    assert len(stored_spans(api, trace, limit=1_000)) == most
    assert at(7) > at(0)
