"""Programs that are instrumented with OpenTelemetry export their traces, and relab shows their agent runs."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk.trace.export import SpanExportResult

from rig.children import read_line
from rig.servers import PostgresServer
from rig.waiting import wait_until
from support.lab.forked import forked
from support.lab.installation import BACK_ENDS, Installation, Lab, running_lab
from support.otlp.agents import (
    ANSWER,
    MODEL,
    ORDER,
    QUESTION,
    found_order,
    lost_order,
    run_broken_stream,
    run_counting_agent,
    run_shop_agent,
)
from support.otlp.runs import StoredRun, assert_report_cites, run_of, stored_run
from support.otlp.sdk import Telemetry, telemetry_to
from support.telemetry.seeds import FIXTURES

LOST = ("ValueError", "no customer_id for order A-1")


@pytest.fixture(scope="module", params=BACK_ENDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(request, tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def telemetry(lab: Lab) -> Iterator[Telemetry]:
    with telemetry_to(lab.server.url) as telemetry:
        yield telemetry


# OpenTelemetry's SDK, with spans made by hand


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_an_agent_traced_by_hand_becomes_a_run(lab: Lab, compression: Compression) -> None:
    with telemetry_to(lab.server.url, compression=compression) as telemetry:
        run_shop_agent(telemetry.tracer, found_order, conversation_id="conversation-1")
        trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert run.shown("status", "agent_name", "agent_version", "model", "environment") == (
        "success", "shop-agent", "2.1.0", MODEL, "staging"
    )  # fmt: skip
    assert run.shown("conversation_id", "correlation_ids") == ("conversation-1", ["conversation-1"])
    assert run.shown("error_type", "error_message") == (None, None)
    # The agent's span repeats these totals, which must not be counted twice.
    assert run.tokens == (260, 32)
    first, second = trace.id_of(f"chat {MODEL}"), trace.id_of(f"chat {MODEL}", 1)
    assert {step_id: (step["status"], step["model"]) for step_id, step in run.steps.items()} == {
        first: ("success", MODEL), second: ("success", MODEL)
    }  # fmt: skip
    assert run.steps[first]["input_summary"] == QUESTION
    assert run.steps[second]["output_summary"] == ANSWER
    assert [run.steps[step]["tokens_prompt"] for step in (first, second)] == [100, 160]
    call = run.calls.pop(trace.id_of("execute_tool order_lookup"))
    assert not run.calls
    assert call["tool_name"] == "order_lookup"
    assert call["status"] == "success"
    assert call["args_json"] == ORDER
    assert json.loads(call["result_summary"]) == found_order(**ORDER)
    assert call["step_id"] == first
    assert call["tool_call_id"] == "call_1"


def test_exception_of_a_tool_leads_back_to_its_span(lab: Lab, telemetry: Telemetry) -> None:
    with pytest.raises(ValueError, match="customer_id"):
        run_shop_agent(telemetry.tracer, lost_order, conversation_id="conversation-2")
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert run.shown("status", "error_type", "error_message") == ("failure", *LOST)
    assert run.tokens == (100, 20)
    failed = trace.id_of("execute_tool order_lookup")
    call = run.calls[failed]
    assert call["status"] == "failure"
    assert (call["error_class"], call["error_message"]) == LOST
    assert call["args_json"] == ORDER
    assert [step["status"] for step in run.steps.values()] == ["success"]
    assert_report_cites(lab, trace, failed, "tool_call")


def test_recorded_exception_outweighs_a_later_ok_status(lab: Lab, telemetry: Telemetry) -> None:
    run_broken_stream(telemetry.tracer)
    trace = telemetry.only_trace()

    step = run_of(lab, trace).steps[trace.id_of(f"chat {MODEL}")]

    assert step["status"] == "failure"
    assert step["error_class"] == "ConnectionResetError"
    assert step["error_message"] == "the stream broke after 3 chunks"


def test_agent_span_with_the_tokens_of_its_model_is_not_counted_as_a_model_call(lab: Lab, telemetry: Telemetry) -> None:
    run_counting_agent(telemetry.tracer)
    trace = telemetry.only_trace()

    run = run_of(lab, trace)

    assert run.shown("status", "model") == ("success", MODEL)
    assert run.tokens == (30, 4)
    assert set(run.steps) == {trace.id_of("Step 1"), trace.id_of("Model.generate")}


def test_run_is_running_until_its_root_span_arrives(lab: Lab) -> None:
    seen: list[StoredRun] = []
    with telemetry_to(lab.server.url, span_by_span=True) as telemetry:

        def look(**arguments: Any) -> Any:
            (trace,) = telemetry.exporter.traces
            seen.append(run_of(lab, trace))
            return found_order(**arguments)

        run_shop_agent(telemetry.tracer, look, conversation_id="conversation-3")
        trace = telemetry.only_trace()

    assert len(telemetry.exporter.results) == len(trace.spans)
    (before,) = seen
    assert before.shown("status", "ended_at") == ("running", None)
    assert list(before.steps) == [trace.id_of(f"chat {MODEL}")]
    after = run_of(lab, trace)
    assert after.shown("status", "agent_name", "conversation_id") == ("success", "shop-agent", "conversation-3")
    assert len(after.steps) == 2
    assert len(after.calls) == 1


def test_a_conversation_groups_runs(lab: Lab, telemetry: Telemetry) -> None:
    for _ in range(2):
        run_shop_agent(telemetry.tracer, found_order, conversation_id="conversation-4")
    run_shop_agent(telemetry.tracer, found_order, conversation_id="conversation-5")
    traces = telemetry.flush()

    listed = lab.get("/agent-runs", conversation_id="conversation-4")["items"]

    assert len({trace.id for trace in traces}) == 3
    assert sorted(run["run_id"] for run in listed) == sorted(trace.id for trace in traces[:2])


def test_span_with_a_time_out_of_range_is_rejected_and_the_rest_of_its_trace_stored(
    lab: Lab, telemetry: Telemetry
) -> None:
    with telemetry.tracer.start_as_current_span("invoke_agent", attributes={"gen_ai.agent.name": "time traveller"}):
        telemetry.tracer.start_span("too late", start_time=2**63, attributes={"gen_ai.request.model": MODEL}).end()
    trace = telemetry.only_trace()

    run = stored_run(lab, trace.id)

    assert run.raw_ids == {trace.id_of("invoke_agent")}
    assert run.shown("agent_name", "status") == ("time traveller", "success")


def test_exporter_is_configured_by_environment_variables_alone(tmp_path: Path) -> None:
    installation = Installation.on_sqlite(tmp_path, APP_INGEST_SECRET="open sesame")
    with installation.serve() as server, Lab(installation, server) as lab:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=production",
        }
        secret = {"OTEL_EXPORTER_OTLP_HEADERS": "x-ingest-secret=open%20sesame"}
        with forked("support.otlp.child", environment=environment) as refused:
            unknown = read_line(refused)
            assert refused.wait() == 1
        with forked("support.otlp.child", environment=environment | secret) as taken:
            run_id = read_line(taken)
            assert taken.wait() == 0

        assert lab.http.get(f"/agent-runs/{unknown}").status_code == 404
        found = lab.get(f"/agent-runs/{run_id}")
        assert found["agent_name"] == "shop-agent"
        assert found["environment"] == "production"
        assert found["status"] == "success"


@pytest.mark.full
def test_exporter_retries_until_the_database_is_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    postgres = PostgresServer.create()
    try:
        installation = Installation.on_postgres(tmp_path, postgres, None)
        with installation.serve() as server, Lab(installation, server) as lab, telemetry_to(server.url) as telemetry:
            postgres.stop()
            run_shop_agent(telemetry.tracer, found_order, conversation_id="outage")
            flushed = threading.Thread(target=telemetry.provider.force_flush)
            with caplog.at_level(logging.WARNING):
                flushed.start()
                wait_until(lambda: "Transient error" in caplog.text, what="the exporter being told to wait")
            assert not telemetry.exporter.results
            postgres.start()
            flushed.join()
            assert telemetry.exporter.results == [SpanExportResult.SUCCESS]
            assert run_of(lab, telemetry.only_trace()).header["status"] == "success"
    finally:
        postgres.destroy()


# The collector's file exporter


def test_file_of_the_collector_can_be_sent_line_by_line(lab: Lab) -> None:
    lines = (FIXTURES / "otlp_file_exporter.json").read_bytes().splitlines()
    checkout, faq = "7c9e6679742540de944be07fc1f90ae7", "1b4e28ba2fa14c3e9d5a6f70c1d2e3f4"

    def send(line: bytes) -> None:
        answer = lab.http.post("/v1/traces", content=line, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200
        assert answer.json() == {}

    send(lines[0])
    assert stored_run(lab, checkout).shown("status", "agent_name") == ("running", "checkout")
    for line in lines[1:]:
        send(line)

    run = stored_run(lab, checkout)
    error = ("InventoryError", "inventory answered 503: connection pool exhausted")
    assert run.shown("status", "error_type", "error_message") == ("failure", *error)
    assert run.shown("agent_name", "agent_version", "environment") == ("checkout-agent", "2024.3", "production")
    assert run.shown("conversation_id", "model") == ("conv-77", "gpt-4o-mini")
    assert run.shown("started_at", "ended_at") == ("2024-01-15T10:30:00Z", "2024-01-15T10:30:01.310000Z")
    assert run.tokens == (882, 59)
    assert set(run.steps) == {"a1f0000000000002", "a1f0000000000007"}
    call = run.calls.pop("a1f0000000000003")
    assert call["tool_name"] == "reserve_stock"
    assert call["status"] == "failure"
    assert (call["error_class"], call["error_message"]) == error
    assert call["args_json"] == {"sku": "B-52", "count": 2}
    assert call["step_id"] == "a1f0000000000002"
    assert not run.calls
    assert run.raw_ids == {f"a1f000000000000{number}" for number in range(1, 8)}
    report = lab.analyse(checkout)
    assert report["attribution"]["call_id"] == "a1f0000000000003"

    answered = stored_run(lab, faq)
    assert answered.shown("status", "agent_name", "conversation_id") == ("success", "faq-agent", "conv-77")
    assert answered.tokens == (120, 9)
    assert list(answered.steps) == ["b2e0000000000003"]
    assert answered.calls["b2e0000000000002"]["args_json"] == "return shoes"

    for line in reversed(lines):
        send(line)
    assert stored_run(lab, checkout).header["content_hash"] == run.header["content_hash"]


def test_spans_from_the_collector_are_read_back_unchanged(lab: Lab) -> None:
    line = (FIXTURES / "otlp_file_exporter.json").read_bytes().splitlines()[1]
    sent = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    lab.http.post("/v1/traces", content=line, headers={"Content-Type": "application/json"}).raise_for_status()

    found = lab.get(f"/agent-runs/{sent[0]['traceId']}/spans")["items"]

    def comparable(span: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in span.items() if key not in {"resource", "scope", "schema_url"}}
        return kept | {"attributes": {pair["key"]: pair["value"] for pair in span["attributes"]}}

    assert [comparable(span) for span in found] == [comparable(span) for span in sorted(sent, key=by_span_id)]
    assert found[0]["resource"]["process.command_args"] == ["node", "agent.js"]
    assert found[0]["scope"]["name"] == "@arizeai/openinference-instrumentation-langchain"


def by_span_id(span: dict[str, Any]) -> str:
    return str(span["spanId"])
