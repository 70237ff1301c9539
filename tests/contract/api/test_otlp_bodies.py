"""Malformed OTLP bodies: they are rejected as a whole with a reason, and nothing is stored."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from starlette.testclient import TestClient

from support.otlp.traces import (
    AGENT,
    CHAT,
    ENCODINGS,
    GOOD_IDS,
    PATH,
    Encoding,
    Trace,
    any_value,
    assert_refused,
    assert_stored,
    assert_taken,
    encode,
    export_of,
    field,
    json_of,
    pairs,
    post,
    span_id,
    span_lists,
    stored_spans,
)

pytestmark = pytest.mark.usefixtures("the_api_goes_on")
BINARY_TYPE = "application/x-protobuf"


def assert_nothing_stored(api: TestClient, trace: Trace) -> None:
    assert api.get(f"/agent-runs/{trace.id}").status_code == 404
    assert api.get(f"/agent-runs/{trace.id}/spans").status_code == 404


def test_a_binary_export_cut_anywhere_is_refused(api: TestClient, trace: Trace) -> None:
    body = encode(trace.good())
    for length in {*range(1, len(body), 13), *range(len(body) - 9, len(body))}:
        assert_refused(post(api, body[:length]), 400, "protobuf")
    assert_nothing_stored(api, trace)
    assert assert_taken(post(api, body)) == (0, "")
    assert_stored(api, trace)


def test_a_json_export_cut_anywhere_is_refused(api: TestClient, trace: Trace) -> None:
    body = encode(trace.good(), "json")
    for length in range(0, len(body), 41):
        assert_refused(post(api, body[:length], "json"), 400, "json")
    assert_nothing_stored(api, trace)


def test_body_cut_after_a_whole_export_is_rejected_as_a_whole(api: TestClient, trace: Trace) -> None:
    # Binary exports may be concatenated; the second export of this body is cut off.
    body = encode(trace.good()) + encode(Trace(f"other {trace.name}").good())[:-5]
    assert_refused(post(api, body), 400, "protobuf")
    assert_nothing_stored(api, trace)


def test_empty_export_is_accepted(api: TestClient, trace: Trace) -> None:
    empty = [b"", encode([]), field(1, b""), field(1, field(2, b""))]
    for body in empty:
        assert assert_taken(post(api, body)) == (0, "")
        assert assert_taken(post(api, body, packed=True)) == (0, "")
    for body in (b"{}", b'{"resourceSpans": []}', b'{"resourceSpans": [{"scopeSpans": [{}]}]}', encode([], "json")):
        assert assert_taken(post(api, body, "json")) == (0, "")


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zlib", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("ZSTD", zstandard.ZstdCompressor().compress),
        ("identity", bytes),
        ("", bytes),
    ],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_compressed_export_is_stored(
    api: TestClient, trace: Trace, encoding: Encoding, name: str, compress: Callable[[bytes], bytes]
) -> None:
    answer = post(api, compress(encode(trace.good(), encoding)), encoding, **{"content-encoding": name})

    assert assert_taken(answer) == (0, "")
    assert_stored(api, trace)


def test_random_bytes_are_malformed_or_have_only_unknown_fields(api: TestClient, trace: Trace) -> None:
    choice = random.Random(20_260_501)
    statuses = set()
    for _ in range(25):
        body = choice.randbytes(choice.randint(1, 200))
        for encoding in ENCODINGS:
            answer = post(api, body, encoding)
            statuses.add(answer.status_code)
            if answer.status_code == 200:
                assert_taken(answer)  # random bytes can be valid unknown fields
            else:
                assert_refused(answer, 400, encoding)
    assert 400 in statuses


@pytest.mark.parametrize("flips", [1, 8])
def test_damaged_export_never_causes_a_server_error(api: TestClient, trace: Trace, flips: int) -> None:
    choice = random.Random(flips)
    for number in range(20):
        other = Trace(f"{trace.name} {number}")
        rich = other.span("rich", "root", CHAT, start_ms=5)
        rich.trace_state = "a=1"
        rich.events.add(name="exception", attributes=pairs({"exception.type": "OSError"}))
        rich.links.add(trace_id=rich.trace_id, span_id=rich.span_id, attributes=pairs({"why": "linked"}))
        whole = encode([rich, *other.good()])
        damaged = bytearray(whole)
        for _ in range(flips):
            # Most damage hits the first span, which has every field that a span can have.
            damaged[choice.randrange(len(damaged) // 2)] = choice.randrange(256)
        answer = post(api, bytes(damaged))
        assert answer.status_code in {200, 400}, answer.content
        if answer.status_code == 400:
            assert_refused(answer, 400, "protobuf")
        # An accepted damaged export can be read, and the undamaged spans can be merged into it.
        assert api.get(f"/agent-runs/{other.id}/spans").status_code in {200, 404}
        assert assert_taken(post(api, whole)) == (0, "")
        assert {span_id("rich"), *GOOD_IDS} <= {span["spanId"] for span in stored_spans(api, other)}


def test_other_content_types_are_rejected(api: TestClient, trace: Trace) -> None:
    others = ("", "text/plain", "application/grpc", "application/x-ndjson", "application/octet-stream", "x" * 5_000)
    for content_type in others:
        answer = api.post(PATH, content=encode(trace.good()), headers={"content-type": content_type})
        # The formats that such a client can read are unknown, so the response is JSON, which people can read.
        assert BINARY_TYPE in assert_refused(answer, 415, "json")
    assert_nothing_stored(api, trace)


def test_request_without_a_content_type_is_rejected(api: TestClient, trace: Trace) -> None:
    assert_refused(api.post(PATH, content=encode(trace.good())), 415, "json")
    assert_nothing_stored(api, trace)


@pytest.mark.parametrize("content_type", [BINARY_TYPE.upper(), f"{BINARY_TYPE}; charset=utf-8", "application/protobuf"])
def test_content_types_of_protobuf_are_accepted(api: TestClient, trace: Trace, content_type: str) -> None:
    answer = api.post(PATH, content=encode(trace.good()), headers={"content-type": content_type})
    assert answer.status_code == 200
    assert_stored(api, trace)


def test_body_in_the_other_encoding_is_malformed(api: TestClient, trace: Trace) -> None:
    assert_refused(post(api, encode(trace.good(), "json"), "protobuf"), 400, "protobuf")
    assert_refused(post(api, encode(trace.good()), "json"), 400, "json")
    assert_nothing_stored(api, trace)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_content_encodings_are_rejected(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    for packing in ("br", "snappy", "lz4", "gzip, gzip", "x" * 500):
        answer = post(api, encode(trace.good(), encoding), encoding, **{"content-encoding": packing})
        assert "gzip" in assert_refused(answer, 415, encoding)
    assert_nothing_stored(api, trace)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gzip_and_identity_are_accepted(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    assert assert_taken(post(api, encode(trace.good(), encoding), encoding, packed=True)) == (0, "")
    assert_stored(api, trace)
    plain = post(api, encode(trace.good(), encoding), encoding, **{"content-encoding": "identity"})
    assert assert_taken(plain) == (0, "")


PACKED = gzip.compress(encode(Trace("packed").good()))
BROKEN_GZIP = (
    b"",
    b"\x0a\x00",
    PACKED[:10],
    PACKED[:-9],
    PACKED[:-1] + b"\x01",
    PACKED + b"more",
    PACKED[:20] + b"\xff\xff\xff\xff",
)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gzip_that_is_not_whole_is_refused(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    for raw in BROKEN_GZIP:
        answer = post(api, raw, encoding, **{"content-encoding": "gzip"})
        assert "gzip" in assert_refused(answer, 400, encoding)
    assert_nothing_stored(api, Trace("packed"))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gzip_must_contain_an_export(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    assert_refused(post(api, b"\xff\xfe", encoding, packed=True), 400, encoding)
    assert_refused(post(api, encode(trace.good(), encoding)[:-3], encoding, packed=True), 400, encoding)
    assert_nothing_stored(api, trace)


STRANGE_JSON = (
    b"null",
    b"[]",
    b'"x"',
    b"[" * 100_000,
    b'{"resourceSpans": {}}',
    b'{"resourceSpans": [null]}',
    b'{"resourceSpans": [{"scopeSpans": "x"}]}',
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [5]}]}]}',
    b'{"resourceSpans": NaN}',
    b'\xef\xbb\xbf{"resourceSpans": []}',
    '{"resourceSpans": []}'.encode("utf-16"),
    b'{"resourceSpans": "\xff"}',
)


def test_json_of_another_shape_is_refused(api: TestClient, trace: Trace) -> None:
    for body in STRANGE_JSON:
        assert_refused(post(api, body, "json"), 400, "json")


def test_unknown_fields_of_json_are_ignored(api: TestClient, trace: Trace) -> None:
    body = json_of(export_of(trace.good()))
    for holder in (body, body["resourceSpans"][0], body["resourceSpans"][0]["scopeSpans"][0], *span_lists(body)[0]):
        holder |= {"fromTheFuture": {"deep": [1, None, {"x": "y"}]}, "": 0}
    span_lists(body)[0][0]["status"] = {"code": 0, "why": "new"}
    span_lists(body)[0][1]["attributes"][0]["flavour"] = "new"
    assert assert_taken(post(api, json.dumps(body).encode(), "json")) == (0, "")
    assert_stored(api, trace)


def test_unknown_fields_of_protobuf_are_ignored(api: TestClient, trace: Trace) -> None:
    unknown = field(15, b"new") + b"\x70\x07"  # field 14 as a number
    spans = b"".join(field(2, span.SerializeToString() + b"\xfa\x3f\x03new") for span in trace.good())  # field 1023
    body = field(1, field(1, unknown) + field(2, spans + unknown) + unknown) + unknown
    assert assert_taken(post(api, body)) == (0, "")
    assert_stored(api, trace)


@pytest.mark.parametrize("spelling", ["number", "string", "snake case"])
def test_all_spellings_of_json_are_accepted(api: TestClient, trace: Trace, spelling: str) -> None:
    body = json_of(export_of(trace.good()))
    for span in span_lists(body)[0]:
        for name in ("startTimeUnixNano", "endTimeUnixNano"):
            span[name] = int(span[name]) if spelling == "number" else str(span[name])
        span["traceId"], span["kind"] = span["traceId"].upper(), "SPAN_KIND_CLIENT" if spelling == "string" else 3
        if spelling == "snake case":
            for old, new in (("startTimeUnixNano", "start_time_unix_nano"), ("traceId", "trace_id")):
                span[new] = span.pop(old)
    assert assert_taken(post(api, json.dumps(body).encode(), "json")) == (0, "")
    assert_stored(api, trace)
    assert {span["kind"] for span in stored_spans(api, trace)} == {3}


def test_malformed_resource_is_rejected_alone(api: TestClient, trace: Trace) -> None:
    bad = Trace(f"bad {trace.name}")
    spoiled = b"\x0a\x01k" + field(2, field(1, b"\xff\xfe"))  # an attribute whose text is no UTF-8
    spans = b"".join(field(2, span.SerializeToString()) for span in bad.good())
    body = encode(trace.good()) + field(1, field(1, field(1, spoiled)) + field(2, spans))
    refused, reason = assert_taken(post(api, body))
    assert refused == len(bad.good())
    assert "resource" in reason
    assert_stored(api, trace)
    assert_nothing_stored(api, bad)


def test_binary_and_json_make_the_same_run(api: TestClient, trace: Trace) -> None:
    values: dict[str, Any] = {
        "int": 2**63 - 1, "negative": -(2**63), "float": 0.5, "nan": float("nan"), "infinite": float("-inf"),
        "bytes": b"\x00\xff", "list": [1, "x", [True, None]], "object": {"a": {"b": 1}}, "unset": None, "": "no key",
    }  # fmt: skip
    spans = [*trace.good(), trace.span("more", "root", CHAT | values, start_ms=5, status=2, message="it broke")]
    spans[-1].events.add(name="exception", time_unix_nano=spans[-1].end_time_unix_nano).attributes.add(
        key="exception.type", value=any_value("OSError")
    )
    spans[-1].links.add(trace_id=spans[0].trace_id, span_id=spans[0].span_id)
    shown = []
    for encoding in ENCODINGS:
        assert assert_taken(post(api, encode(spans, encoding, AGENT | values), encoding)) == (0, "")
        run = assert_stored(api, trace, "more")
        shown.append(
            (
                stored_spans(api, trace),
                api.get(f"/agent-runs/{trace.id}/timeline").json(),
                {name: value for name, value in run.items() if name not in {"received_at", "updated_at"}},
            )
        )
        assert api.delete(f"/agent-runs/{trace.id}").status_code == 204
    assert shown[0] == shown[1]
    assert [span["links"][0]["spanId"] for span in shown[0][0] if span["spanId"] == span_id("more")] == [
        span_id("root")
    ]
