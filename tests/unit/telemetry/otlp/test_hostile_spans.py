"""Hostile spans: any spans make a run that can be stored and read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.core.clock import parse_time
from relab.telemetry.models import ITEM_KINDS
from relab.telemetry.records import RunRecord
from support.telemetry.runs import examples
from unit.telemetry.otlp.builders import (
    AGENT,
    CHAT,
    TOOL,
    TRACE,
    any_value,
    is_plain,
    load,
    record_of_spans,
    run_of,
    span,
)
from unit.telemetry.otlp.strategies import KEYS, attribute_lists, scalars, spans, traces

COLUMN_CHARS = {
    "run_id": 200, "agent_name": 500, "agent_version": 1_000, "model": 1_000, "environment": 1_000,
    "conversation_id": 500, "status": 16, "task_id": 1_000, "prompt_hash": 1_000, "version_key": 80,
    "content_hash": 80, "source": 8,
}  # fmt: skip


def check(record: RunRecord) -> None:
    """Assert that a record can be stored in every database and read back."""
    run = load(record)
    values = record.columns(0)
    assert run.run_id == values["run_id"]
    assert run.started_at == values["started_at"]
    assert run.ended_at == values["ended_at"]
    assert run.status == values["status"]
    assert run.agent_name == values["agent_name"]
    assert run.conversation_id == values["conversation_id"]
    counts = [values["step_count"], values["tool_call_count"], values["guardrail_event_count"]]
    assert [len(getattr(run, kind.list_name)) for kind in ITEM_KINDS] == counts
    for column, chars in COLUMN_CHARS.items():
        assert values[column] is None or len(values[column]) <= chars
    assert is_plain(values)
    assert is_plain(run.model_dump(mode="json"))
    assert sum(calls for calls, _ in json.loads(values["tool_stats"]).values()) == len(run.tool_calls)
    assert len({item.key for item in record.items}) == len(record.items)
    for item in record.items:
        data = json.loads(item.data)
        assert item.at == parse_time(data["created_at" if item.kind == 2 else "started_at"])
        assert item.ref_id == data[ITEM_KINDS[item.kind].id_field]


@given(traces())
@examples(80)
def test_any_spans_make_a_run_that_can_be_stored_and_read(trace: list[SpanMessage]) -> None:
    check(record_of_spans(*trace))


@given(attribute_lists, traces(max_size=2))
@examples(40)
def test_any_process_makes_a_run_that_can_be_stored_and_read(
    resource: list[tuple[str, Any]], trace: list[SpanMessage]
) -> None:
    check(record_of_spans(*trace, resource=dict(resource)))


@pytest.mark.parametrize("key", [key for key in KEYS if key])
@given(st.lists(scalars | st.lists(scalars, max_size=2), min_size=1, max_size=6), st.sampled_from([AGENT, CHAT, TOOL]))
@examples(6)
def test_attribute_of_any_type_gives_a_readable_run(key: str, given_values: list[Any], role: dict[str, Any]) -> None:
    below = [span(str(number), "root", role | {key: value}) for number, value in enumerate(given_values)]
    check(record_of_spans(span("root", None, AGENT | {key: given_values[0]}), *below))


@given(st.data(), traces())
@examples(60)
def test_order_of_arrival_does_not_change_the_run(data: st.DataObject, trace: list[SpanMessage]) -> None:
    shuffled = data.draw(st.permutations(trace))
    assert record_of_spans(*shuffled) == record_of_spans(*trace)


@given(st.data(), st.lists(spans(), min_size=1, max_size=6))
@examples(60)
def test_repeated_and_split_reports_make_one_run_in_any_order(data: st.DataObject, reports: list[SpanMessage]) -> None:
    again = data.draw(st.lists(st.sampled_from(reports), max_size=3))
    assert record_of_spans(*data.draw(st.permutations(reports + again))) == record_of_spans(*reports)
    check(record_of_spans(*reports))


@given(traces(max_size=4))
@examples(40)
def test_equal_runs_have_equal_hashes_and_different_runs_different_ones(trace: list[SpanMessage]) -> None:
    record = record_of_spans(*trace)
    assert record_of_spans(*trace).row.content_hash == record.row.content_hash
    added = span("more", "root", CHAT, title="something more")
    assert record_of_spans(*trace, added).row.content_hash != record.row.content_hash


def test_deeply_nested_values_give_a_readable_run() -> None:
    value: Any = "bottom"
    for level in range(20):
        value = [value] if level % 2 else {"down": value}
    for key in ("gen_ai.tool.call.arguments", "gen_ai.output.messages", "error.type"):
        for role in (TOOL, CHAT):
            check(record_of_spans(span("it", None, role | {key: value})))


TELLING = [key for key in KEYS if key and key not in {"gen_ai.operation.name", "openinference.span.kind"}]


@pytest.mark.parametrize("role", [AGENT, CHAT, TOOL, {"openinference.span.kind": "GUARDRAIL"}], ids=str)
@pytest.mark.parametrize("long", ["m" * 60_000, ["r" * 200] * 300], ids=["text", "list"])
def test_huge_attribute_is_not_stored_in_the_rows(role: dict[str, Any], long: object) -> None:
    attributes = dict.fromkeys(TELLING, long) | role
    it = span("it", "root", attributes, title="n" * 120_000, status=2, message="m" * 120_000)
    record = record_of_spans(span("root", None, attributes | AGENT, status=2), it)
    check(record)
    assert len(record.row.data) < 50_000
    assert max(len(item.data) for item in record.items) < 100_000


def test_nul_is_replaced_anywhere() -> None:
    made = span("it", None, CHAT | {"gen_ai.output.messages": "a\x00b", "gen_ai.agent.name\x00": "x"}, title="n\x00")
    made.attributes.add(key="input.value", value=any_value({"a\x00": ["b\x00"]}))
    run = run_of(made, span("t", None, TOOL | {"gen_ai.tool.call.arguments": {"a\x00": 1}}))
    assert run.run_id == TRACE.hex()
    assert run.steps[0].name == "n\ufffd"
    assert run.steps[0].output_summary == "a\ufffdb"
    assert run.tool_calls[0].args_json == {"a\ufffd": 1}
