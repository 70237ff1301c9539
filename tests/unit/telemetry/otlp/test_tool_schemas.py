"""The schema of a failed tool, from the definitions that each dialect reports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.otlp.dialects.tool_schemas import GivenSchemas
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, run_of, span

SCHEMA = {"type": "object", "properties": {"customer_id": {"type": "string"}}, "required": ["customer_id"]}
OPENAI = {"type": "function", "function": {"name": "order_lookup", "parameters": SCHEMA}}
OTHER = {"type": "function", "function": {"name": "other", "parameters": {"properties": {}}}}
ERROR = 2

OF_THE_MODEL: dict[str, dict[str, Any]] = {
    "OpenTelemetry": {"gen_ai.tool.definitions": json.dumps([OTHER, {"name": "order_lookup", "parameters": SCHEMA}])},
    "OpenTelemetry, as values": {"gen_ai.tool.definitions": [{"name": "order_lookup", "parameters": SCHEMA}]},
    "OpenInference": {
        "llm.tools.0.tool.json_schema": json.dumps(OTHER),
        "llm.tools.1.tool.json_schema": json.dumps(OPENAI),
    },
    "Vercel": {"ai.prompt.tools": [json.dumps({"name": "order_lookup", "inputSchema": SCHEMA})]},
    "Anthropic": {"gen_ai.tool.definitions": json.dumps([{"name": "order_lookup", "input_schema": SCHEMA}])},
}
OF_THE_TOOL: dict[str, dict[str, Any]] = {
    "OpenInference": {"tool.parameters": json.dumps(SCHEMA)},
    "Strands": {"gen_ai.tool.json_schema": json.dumps(SCHEMA)},
}


def schema_of(model: dict[str, Any], tool: dict[str, Any], status: int = ERROR) -> Any:
    run = run_of(
        span("root", None, AGENT), span("chat", "root", CHAT | model), span("tool", "root", TOOL | tool, status=status)
    )
    return (run.tool_calls[0].model_extra or {}).get("tool_schema")


@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_failed_call_has_the_schema_that_the_model_was_given(name: str) -> None:
    assert schema_of(OF_THE_MODEL[name], {}) == SCHEMA


@pytest.mark.parametrize("name", OF_THE_TOOL)
def test_failed_call_has_the_schema_of_its_own_span(name: str) -> None:
    assert schema_of({}, OF_THE_TOOL[name]) == SCHEMA


def test_good_call_has_no_schema() -> None:
    assert schema_of(OF_THE_MODEL["OpenTelemetry"], {}, status=0) is None


@pytest.mark.parametrize(
    "definitions",
    [
        "",
        "[",
        "7",
        "{}",
        "[7, null]",
        json.dumps([{"name": "order_lookup", "parameters": "x"}]),
        json.dumps([{"name": "order_lookup"}]),
    ],
)
def test_definitions_that_cannot_be_read_are_left_out(definitions: str) -> None:
    assert schema_of({"gen_ai.tool.definitions": definitions}, {}) is None


def test_very_long_schema_is_left_out() -> None:
    long = {"properties": {f"p{number}": {"description": "x" * 50} for number in range(500)}}
    assert (
        schema_of({"gen_ai.tool.definitions": json.dumps([{"name": "order_lookup", "parameters": long}])}, {}) is None
    )


def test_definitions_are_read_once_for_all_failed_calls() -> None:
    once = iter([OF_THE_MODEL["OpenTelemetry"]])
    schemas = GivenSchemas(once)
    assert [schemas.of(tool) for tool in ("refund", "order_lookup", "order_lookup")] == [None, SCHEMA, SCHEMA]


def test_first_definition_with_a_schema_is_used() -> None:
    spans = [
        {"gen_ai.tool.definitions": json.dumps([{"name": "order_lookup", "parameters": it}])}
        for it in (7, SCHEMA, OTHER["function"]["parameters"])
    ]
    assert GivenSchemas(spans).of("order_lookup") == SCHEMA
