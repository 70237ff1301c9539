"""Log records over OTLP: they are stored with their traces, and exceptions and messages in them complete the run."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from starlette.testclient import TestClient

from relab.bootstrap import Services
from support.api.client import run_jobs
from support.otlp.logs import (
    ERROR,
    INFO,
    LOGS_PATH,
    WARN,
    bodies,
    encode_logs,
    exception_log,
    log,
    logs_request,
    post_logs,
    post_to,
    stored_logs,
)
from support.otlp.logs import assert_accepted as accepted
from support.otlp.traces import (
    AGENT,
    CHAT,
    ENCODINGS,
    TOOL,
    Encoding,
    Trace,
    assert_refused,
    assert_taken,
    digest,
    encode,
    field,
    post,
    span_id,
)
from support.telemetry.runs import examples, minimal_run

_numbers = itertools.count()


@pytest.fixture
def trace(run_id: str) -> Trace:
    return Trace(f"logs {run_id}")


def timeline(api: TestClient, trace: Trace) -> dict[str, dict[str, Any]]:
    """Return `{span name: item}` of a trace of `failing_tool`."""
    names = {span_id(name): name for name in ("root", "chat", "tool", "other")}
    items = api.get(f"/agent-runs/{trace.id}/timeline").json()["items"]
    return {names[item["ref_id"]]: item for item in items}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_records_of_a_trace_are_shown_oldest_first(
    api: TestClient, trace: Trace, encoding: Encoding, packed: bool
) -> None:
    assert assert_taken(post(api, encode(trace.good()))) == (0, "")
    records = [
        log(trace, "tool", {"a": [1, None, {"b": "x"}]}, {"n": 1}, at_ms=3, severity=INFO),
        log(trace, None, "first", at_ms=1),
        log(trace, "chat", "second", at_ms=2, name="app.event"),
    ]
    answer = post_to(LOGS_PATH, api, encode_logs(records, encoding), encoding, packed=packed)
    assert accepted(answer) == (0, "")
    found = stored_logs(api, trace)
    assert [record.get("spanId") for record in found] == [None, span_id("chat"), span_id("tool")]
    assert found[1]["eventName"] == "app.event"
    assert found[2]["severityNumber"] == INFO
    assert found[2]["attributes"] == [{"key": "n", "value": {"intValue": "1"}}]
    assert found[2]["traceId"] == trace.id
    assert found[2]["resource"] == {"service.name": "tests"}
    assert found[2]["scope"]["name"] == "tests"


def test_pages_of_records_add_up_to_the_whole_list(api: TestClient, trace: Trace) -> None:
    assert_taken(post(api, encode(trace.good())))
    # Several records have the same time, so that only their ids order them.
    post_logs(api, *[log(trace, "root", f"line {number}", at_ms=number // 3) for number in range(10)])
    whole = stored_logs(api, trace)
    assert len(whole) == 10
    assert stored_logs(api, trace, limit=3) == whole
    assert api.get(f"/agent-runs/{trace.id}/logs", params={"limit": 1_001}).status_code == 422
    assert api.get(f"/agent-runs/{trace.id}/logs", params={"cursor": "x"}).status_code == 422


def test_records_without_spans_make_no_run_and_are_shown_once_it_exists(api: TestClient, trace: Trace) -> None:
    assert post_logs(api, log(trace, "chat", "early")) == (0, "")
    assert api.get(f"/agent-runs/{trace.id}").status_code == 404
    assert api.get(f"/agent-runs/{trace.id}/logs").status_code == 404
    assert_taken(post(api, encode(trace.good())))
    assert bodies(stored_logs(api, trace)) == ["early"]
    assert api.get(f"/agent-runs/{trace.id}").json()["counts"] == {"steps": 1, "tool_calls": 1, "guardrail_events": 0}


def test_repeated_records_are_stored_once(api: TestClient, trace: Trace) -> None:
    assert_taken(post(api, encode(trace.good())))
    record = log(trace, "root", "once")
    other = log(trace, "root", "once", at_ms=0.6)
    for encoding in ENCODINGS:
        assert post_logs(api, record, record, encoding=encoding) == (0, "")
    assert post_logs(api, other, record) == (0, "")
    assert len(stored_logs(api, trace)) == 2


def test_records_of_two_processes_keep_their_resources(api: TestClient, trace: Trace) -> None:
    assert_taken(post(api, encode(trace.good())))
    for service in ("one", "two"):
        body = encode_logs([log(trace, "root", "same")], resource={"service.name": service})
        assert accepted(post_to(LOGS_PATH, api, body)) == (0, "")
    assert {record["resource"]["service.name"] for record in stored_logs(api, trace)} == {"one", "two"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_records_without_a_trace_are_accepted_with_a_warning(api: TestClient, trace: Trace, encoding: Encoding) -> None:
    assert_taken(post(api, encode(trace.good())))
    short = log(trace, "root", "id of a wrong length")
    short.trace_id = b"short"
    rejected, message = post_logs(
        api, log(None, None, "no trace"), short, log(trace, "root", "kept"), encoding=encoding
    )
    assert rejected == 0
    assert "2 log records have no trace id" in message
    assert bodies(stored_logs(api, trace)) == ["kept"]


def test_record_with_an_invalid_span_id_belongs_only_to_its_trace(api: TestClient, trace: Trace) -> None:
    assert_taken(post(api, encode(trace.good())))
    odd = log(trace, None, "odd", name="gen_ai.user.message")
    odd.span_id = b"odd"
    assert post_logs(api, odd) == (0, "")
    assert bodies(stored_logs(api, trace)) == ["odd"]


def test_records_that_cannot_be_read_are_rejected_alone(api: TestClient, trace: Trace) -> None:
    assert_taken(post(api, encode(trace.good())))
    good = log(trace, "root", "good").SerializeToString()
    body = field(1, field(2, field(2, b"\xff\xff") + field(2, good)))
    rejected, message = accepted(post_to(LOGS_PATH, api, body))
    assert rejected == 1
    assert "log record" in message
    assert bodies(stored_logs(api, trace)) == ["good"]


def test_requests_that_cannot_be_read_are_rejected_as_a_whole(api: TestClient, trace: Trace) -> None:
    whole = encode_logs([log(trace, "root", "x")])
    assert_refused(post_to(LOGS_PATH, api, whole[:-3]), 400, "protobuf")
    assert_refused(post_to(LOGS_PATH, api, b'{"resourceLogs": 5}', "json"), 400, "json")
    assert_refused(post_to(LOGS_PATH, api, whole, "protobuf", **{"content-encoding": "br"}), 415, "protobuf")
    assert_refused(api.post(LOGS_PATH, content=whole, headers={"content-type": "text/plain"}), 415, "json")


def test_record_with_a_time_out_of_range_is_stored(api: TestClient, trace: Trace) -> None:
    assert_taken(post(api, encode(trace.good())))
    late, timeless = log(trace, "root", "late"), log(trace, "root", "timeless")
    late.time_unix_nano = 2**64 - 1
    timeless.time_unix_nano = timeless.observed_time_unix_nano = 0
    assert post_logs(api, late, timeless) == (0, "")
    assert bodies(stored_logs(api, trace)) == ["timeless", "late"]


def test_an_exception_explains_the_span_that_failed(api: TestClient, trace: Trace) -> None:
    spans = [trace.span("root", None, AGENT, end_ms=9), trace.span("tool", "root", TOOL, status=2)]
    assert_taken(post(api, encode(spans)))
    before = api.get(f"/agent-runs/{trace.id}").json()["content_hash"]
    assert "error_class" not in timeline(api, trace)["tool"]["data"]
    post_logs(api, exception_log(trace, "tool", "TimeoutError", "the database did not answer"))
    tool = timeline(api, trace)["tool"]["data"]
    assert tool["error_class"] == "TimeoutError"
    assert tool["error_message"] == "the database did not answer"
    assert api.get(f"/agent-runs/{trace.id}").json()["content_hash"] != before
    found = api.get("/agent-runs", params={"text": "the database did not answer"}).json()["items"]
    assert trace.id in [run["run_id"] for run in found]


@pytest.mark.parametrize(
    ("span", "status", "severity", "expected"),
    [
        ("tool", 0, ERROR, "failure"),
        ("tool", 0, 0, "failure"),
        ("tool", 0, WARN, "success"),
        ("tool", 1, ERROR, "success"),
        ("chat", 0, ERROR, "success"),
    ],
)
def test_an_exception_fails_only_a_call_whose_status_is_not_set(
    api: TestClient, trace: Trace, span: str, status: int, severity: int, expected: str
) -> None:
    role = {"tool": TOOL, "chat": CHAT}[span]
    spans = [trace.span("root", None, AGENT, end_ms=9), trace.span(span, "root", role, status=status)]
    assert_taken(post(api, encode(spans)))
    post_logs(api, exception_log(trace, span, "ValueError", "handled or not", severity=severity))
    assert timeline(api, trace)[span]["status"] == expected
    assert len(stored_logs(api, trace)) == 1


def test_records_of_a_run_posted_as_json_are_stored_and_do_not_change_it(api: TestClient, trace: Trace) -> None:
    assert api.post("/agent-runs", json=minimal_run(trace.id)).status_code == 201
    before = api.get(f"/agent-runs/{trace.id}").json()
    assert post_logs(api, log(trace, "x", "beside", name="gen_ai.choice")) == (0, "")
    assert bodies(stored_logs(api, trace)) == ["beside"]
    assert api.get(f"/agent-runs/{trace.id}").json() == before


def test_deleting_a_run_deletes_its_records(api: TestClient, trace: Trace) -> None:
    assert_taken(post(api, encode(trace.good())))
    post_logs(api, log(trace, "root", "gone"))
    assert api.delete(f"/agent-runs/{trace.id}").status_code == 204
    assert_taken(post(api, encode(trace.good())))
    assert stored_logs(api, trace) == []
    post_logs(api, log(trace, "root", "gone"))
    assert bodies(stored_logs(api, trace)) == ["gone"]


def test_records_are_counted_by_outcome(api: TestClient, trace: Trace) -> None:
    def counts() -> dict[str, float]:
        lines = [line for line in api.get("/metrics").text.splitlines() if line.startswith("relab_log_records_total")]
        return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}

    before = counts()
    bad = field(1, field(2, field(2, b"\xff\xff")))
    post_to(LOGS_PATH, api, bad + encode_logs([log(trace, "x", "a"), log(trace, "x", "b"), log(None, None, "c")]))
    after = counts()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown == {"accepted": 2, "rejected": 1, "ignored": 1}


def events_of(trace: Trace) -> list[LogRecord]:
    """Return log records for `trace.good()`, some of which change its run."""
    return [
        exception_log(trace, "tool", "TimeoutError", "first"),
        log(trace, "chat", {"content": "What is the weather?"}, {"event.name": "gen_ai.user.message"}, at_ms=1.1),
        log(trace, "chat", {"index": 0, "message": {"content": "Sunny"}}, name="gen_ai.choice", at_ms=1.2),
        log(trace, "root", "a plain line", severity=INFO),
        log(trace, None, "a line without a span"),
    ]


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """Draw requests that contain all spans and records in some order, some of them twice."""
    items = [("span", number) for number in range(3)] + [("log", number) for number in range(5)]
    items += draw(st.lists(st.sampled_from(items), max_size=4))
    shuffled = draw(st.permutations(items))
    requests: list[list[tuple[str, int]]] = [[]]
    for item in shuffled:
        if requests[-1] and (requests[-1][-1][0] != item[0] or draw(st.booleans())):
            requests.append([])
        requests[-1].append(item)
    return requests


def shown(api: TestClient, trace: Trace) -> str:
    """Return everything that the API shows of a run, without its id and the times of its receipt."""
    run = api.get(f"/agent-runs/{trace.id}").json()
    for name in ("received_at", "updated_at", "content_hash"):
        del run[name]
    items = api.get(f"/agent-runs/{trace.id}/timeline").json()["items"]
    records = [{name: value for name, value in item.items() if name != "traceId"} for item in stored_logs(api, trace)]
    records.sort(key=json.dumps)
    return json.dumps([run, items, records]).replace(trace.id, "TRACE")


@given(deliveries())
@examples(12)
def test_order_of_spans_and_records_does_not_change_the_run(
    api: TestClient, delivery: list[list[tuple[str, int]]]
) -> None:
    number = next(_numbers)
    whole, parts = Trace(f"logs whole {number}"), Trace(f"logs parts {number}")
    assert_taken(post(api, encode(whole.good())))
    post_logs(api, *events_of(whole))
    for request in delivery:
        if request[0][0] == "span":
            spans = parts.good()
            assert assert_taken(post(api, encode([spans[number] for _, number in request]))) == (0, "")
        else:
            records = events_of(parts)
            assert post_logs(api, *[records[number] for _, number in request]) == (0, "")
    assert shown(api, parts) == shown(api, whole)


def test_processes_that_receive_spans_and_records_at_once_lose_no_event(installation: Services) -> None:
    """In each round two writers, which stand for two processes, store the records and the spans at the same moment."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    from relab.telemetry.service import TelemetryService

    others = [
        TelemetryService(installation.database, installation.clock, installation.queue),
        TelemetryService(installation.database, installation.clock, installation.queue),
    ]
    traces = [Trace(f"at once {number}") for number in range(12)]
    barrier = Barrier(2)

    def send(service: TelemetryService, signal: Any, make: Any) -> None:
        for trace in traces:
            body = make(trace)
            barrier.wait(30)
            assert service.ingest_otlp(signal, body, "protobuf").rejected == 0

    with ThreadPoolExecutor(2) as threads:
        ends = [
            threads.submit(send, others[0], "traces", lambda trace: encode(trace.good())),
            threads.submit(
                send,
                others[1],
                "logs",
                lambda trace: encode_logs([exception_log(trace, "tool", "TimeoutError", "slow")]),
            ),
        ]
        for end in ends:
            end.result()
    for trace in traces:
        run, _ = installation.telemetry.load(trace.id)
        assert [call.error_class for call in run.tool_calls] == ["TimeoutError"], trace


def test_empty_request_is_accepted(api: TestClient) -> None:
    for encoding in ENCODINGS:
        assert accepted(post_to(LOGS_PATH, api, encode_logs([], encoding), encoding)) == (0, "")
    assert accepted(post_to(LOGS_PATH, api, b"")) == (0, "")
    assert logs_request([]).resource_logs
    assert digest("x", 8)


def test_analysis_quotes_the_errors_of_the_log(api: TestClient, installation: Services, trace: Trace) -> None:
    spans = [
        trace.span("root", None, AGENT, end_ms=9),
        trace.span("tool", "root", TOOL, start_ms=3, end_ms=6, status=2, message="Tool execution failed"),
    ]
    assert_taken(post(api, encode(spans)))
    records = [
        log(trace, "tool", "all is well", at_ms=4, severity=INFO),
        log(trace, "tool", "GET /orders answered 429 Too Many Requests", at_ms=5, severity=ERROR),
    ]
    assert post_logs(api, *records) == (0, "")
    rca_run_id = api.post(f"/agent-runs/{trace.id}/rca-runs").json()["rca_run_id"]
    run_jobs(installation)
    report = api.get(f"/agent-runs/rca-runs/{rca_run_id}").json()["report"]

    assert report["category"] == "rate_limited"
    lines = [item for item in report["evidence_index"] if item["kind"] == "log_line"]
    assert [item["snippet"] for item in lines] == ["GET /orders answered 429 Too Many Requests"]
    assert lines[0]["attributes"] == {"severity": ERROR, "span_id": span_id("tool")}
    assert lines[0]["evidence_id"] in report["hypotheses"][0]["evidence_ids"]
