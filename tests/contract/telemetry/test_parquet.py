"""Parquet files on both databases, read back by DuckDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from relab.bootstrap import Services
from relab.core.clock import parse_time
from relab.telemetry.export.export_rows import ITEM_COLUMNS, RUN_COLUMNS, SPAN_COLUMNS
from relab.telemetry.export.parquet import write_parquet
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from support.otlp.traces import AGENT, TOOL, Trace, at, encode, pairs, span_id
from support.telemetry.runs import failed_run, guardrail_event, minimal_run, step, time_text, tool_call

EARLIEST, LATEST = "1970-01-01T00:00:00.000001Z", "2199-12-31T23:59:59.999999Z"


def read(path: Path, order: str = "1") -> list[dict[str, Any]]:
    """Return the rows of a file as DuckDB reads them, times as text in UTC."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # DuckDB needs one more package to return times, so they are cast to text.
        as_text = f"SELECT COLUMNS(*)::VARCHAR FROM (SELECT * FROM '{path}' ORDER BY {order})"
        found = connection.execute(as_text)
        names = [field[0] for field in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def types(path: Path) -> dict[str, str]:
    with duckdb.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()}


def metadata(path: Path, column: str) -> set[Any]:
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT DISTINCT {column} FROM parquet_metadata('{path}')")
        return {row[0] for row in found.fetchall()}


@pytest.fixture
def filled(services: Services) -> Services:
    """An installation with a failed run, a run with only the required fields, and a trace."""
    for body in (
        failed_run("json", odd={"kept": [1]}),
        minimal_run("least", started_at=EARLIEST, tool_calls=[tool_call("c", retries=2**63 - 1, started_at=LATEST)]),
    ):
        services.telemetry.ingest(check_agent_run(body))
    trace = Trace("trace")
    tool = trace.span("tool", "root", {**TOOL, "nested": {"a": [1, None, "\x00"]}}, start_ms=1.0005, end_ms=None)
    tool.events.add(name="retry", time_unix_nano=2**64 - 1, attributes=pairs({"n": 1}))
    tool.links.add(trace_id=bytes(range(16)), span_id=bytes(range(8)))
    root = trace.span("root", None, AGENT, end_ms=2, status=2, message="it broke")
    root.kind = 3  # type: ignore[assignment]
    resource = {"service.name": "tests", "cores": 4}
    assert services.telemetry.ingest_otlp("traces", encode([tool, root], resource=resource), "protobuf").rejected == 0
    return services


def test_runs_are_flat_rows(filled: Services, tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    with filled.telemetry.export(RunFilter()) as runs:
        runs.write_parquet(path)

    assert types(path) == dict(RUN_COLUMNS)
    assert metadata(path, "compression") == {"ZSTD"}
    least, trace, failed = read(path, order="started_at, source DESC")
    assert failed["run_id"] == "json"
    assert failed["source"] == "json"
    assert failed["status"] == "failure"
    assert failed["agent_version"] == "2.1.0"
    assert failed["started_at"] == "2024-01-15 10:30:00+00"
    assert failed["ended_at"] == "2024-01-15 10:30:45+00"
    assert failed["tokens_prompt"] == "1250"
    assert failed["tokens_completion"] == "380"
    assert failed["total_cost_usd"] == "0.0245"
    assert failed["step_count"] == "2"
    assert failed["tool_call_count"] == "1"
    assert failed["guardrail_event_count"] == "1"
    assert failed["error_type"] == "ToolCallError"
    assert failed["trace_id"] == "trace-abc"
    assert failed["outcome"] == "failed"
    assert failed["outcome_rule"] == "reported_failure"
    assert json.loads(failed["outcome_evidence"])[0]["text"] == "Tool schema validation failed"
    assert json.loads(failed["data"])["odd"] == {"kept": [1]}
    assert least["started_at"] == "1970-01-01 00:00:00.000001+00"
    assert {name for name, value in least.items() if value is not None} == {
        "run_id", "source", "agent_name", "started_at", "status", "step_count", "tool_call_count",
        "guardrail_event_count", "received_at", "updated_at", "data", "outcome", "outcome_rule", "outcome_evidence",
        "agent_outcomes",
    }  # fmt: skip
    assert trace["run_id"] == Trace("trace").id
    assert trace["trace_id"] == Trace("trace").id
    assert trace["source"] == "otlp"


def test_items_are_flat_rows(filled: Services, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    with filled.telemetry.export(RunFilter(), "items") as runs:
        runs.write_parquet(path)

    assert types(path) == dict(ITEM_COLUMNS)
    items = {(row["run_id"], row["ref_id"]): row for row in read(path)}
    assert len(items) == 4 + 1 + 1
    slow, call, event = items["json", "s2"], items["json", "c1"], items["json", "g1"]
    assert slow["kind"] == "step"
    assert slow["step_id"] == "s2"
    assert slow["name"] == "do s2"
    assert slow["status"] == "failure"
    assert slow["at"] == "2024-01-15 10:30:05+00"
    assert slow["ended_at"] == "2024-01-15 10:30:15+00"
    assert slow["latency_ms"] == "10000.0"
    assert slow["retries"] == "1"
    assert call["kind"] == "tool_call"
    assert call["call_id"] == "c1"
    assert call["step_id"] == "s2"
    assert call["name"] == "order_lookup"
    assert call["at"] == "2024-01-15 10:30:05+00", "a call without a time is placed at the start of its step"
    assert call["started_at"] is None
    assert call["status_code"] == "400"
    assert call["error_class"] == "ValidationError"
    assert json.loads(call["data"])["args_json"] == {"order_number": "12345"}
    assert event["kind"] == "guardrail_event"
    assert event["name"] == "schema_validation"
    assert event["step_id"] == "s2"
    assert event["status"] is None
    last = items["least", "c"]
    assert last["at"] == "2199-12-31 23:59:59.999999+00"
    assert last["retries"] == str(2**63 - 1)


def test_additional_field_of_another_type_than_its_column_is_in_the_data_only(
    services: Services, tmp_path: Path
) -> None:
    odd = {"status_code": "502 Bad Gateway", "retries": 2**70, "error_class": ["a"], "agent_name": {}}
    event = guardrail_event("g", started_at="yesterday", ended_at=5, **odd)
    steps = [step("s", status_code="502 Bad Gateway", call_id={"a": 1}), step("t", 1, status_code=502)]
    services.telemetry.ingest(check_agent_run(minimal_run("odd", steps=steps, guardrail_events=[event])))
    path = tmp_path / "items.parquet"
    with services.telemetry.export(RunFilter(), "items") as items:
        items.write_parquet(path)

    rows = {row["ref_id"]: row for row in read(path)}
    assert (rows["s"]["status_code"], rows["t"]["status_code"]) == (None, "502")
    assert [rows["g"][name] for name in (*odd, "started_at", "ended_at")] == [None] * 6
    assert json.loads(rows["g"]["data"]) == event


def test_spans_are_flat_rows(filled: Services, tmp_path: Path) -> None:
    path = tmp_path / "spans.parquet"
    with filled.telemetry.export(RunFilter(), "spans") as runs:
        runs.write_parquet(path)

    assert types(path) == dict(SPAN_COLUMNS)
    root, tool = read(path, order="started_at")
    assert root["trace_id"] == Trace("trace").id
    assert root["span_id"] == span_id("root")
    assert root["parent_span_id"] is None
    assert root["name"] == "root"
    assert root["kind"] == "3"
    assert root["started_at"] == "2024-01-15 10:30:00+00"
    assert root["ended_at"] == "2024-01-15 10:30:00.002+00"
    assert root["status_code"] == "2"
    assert root["status_message"] == "it broke"
    assert json.loads(root["attributes"]) == AGENT
    assert json.loads(root["resource"]) == {"service.name": "tests", "cores": 4}
    assert json.loads(root["scope"]) == {"name": "tests", "version": ""}
    assert tool["parent_span_id"] == span_id("root")
    assert tool["start_time_unix_nano"] == str(at(1.0005))
    assert tool["started_at"] == "2024-01-15 10:30:00.001+00"
    assert tool["end_time_unix_nano"] is None
    assert tool["ended_at"] is None
    assert json.loads(tool["attributes"])["nested"] == {"a": [1, None, "\ufffd"]}
    assert json.loads(tool["events"]) == [{"name": "retry", "time_unix_nano": 2**64 - 1, "attributes": {"n": 1}}]
    assert json.loads(tool["links"]) == [
        {"trace_id": bytes(range(16)).hex(), "span_id": bytes(range(8)).hex(), "attributes": {}}
    ]


def test_many_rows_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "it's.parquet"
    rows = ({"run_id": f"r{number}", "at": number} for number in range(50_000))

    write_parquet(path, {"run_id": "VARCHAR", "at": "TIMESTAMP WITH TIME ZONE"}, rows)

    with duckdb.connect() as connection:
        statement = 'SELECT run_id, epoch_us("at") FROM read_parquet(?)'
        found = connection.execute(statement, [str(path)]).fetchall()
    assert found == [(f"r{number}", number) for number in range(50_000)]
    assert {item.name for item in tmp_path.iterdir() if item.name.startswith("it")} == {"it's.parquet"}


def test_an_empty_export_has_its_columns(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    with services.telemetry.export(RunFilter(started_after_us=parse_time(time_text(0)))) as runs:
        runs.write_parquet(path)

    assert types(path) == dict(RUN_COLUMNS)
    assert read(path) == []
