"""The fields of steps and tool calls, from the attributes of each dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.telemetry.otlp.builders import AGENT, CHAT, call_of, extra, id_of, run_of, span, step_of

GENAI_TOOL = {"gen_ai.operation.name": "execute_tool"}
OI_TOOL = {"openinference.span.kind": "TOOL"}
LLMETRY_TOOL = {"traceloop.span.kind": "tool"}
RETRIEVAL = {"gen_ai.operation.name": "retrieval"}
OI_RETRIEVER = {"openinference.span.kind": "RETRIEVER"}

TOOL_FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "OpenTelemetry": (
        GENAI_TOOL
        | {
            "gen_ai.tool.name": "order_lookup",
            "gen_ai.tool.call.id": "call-7",
            "gen_ai.tool.call.arguments": '{"order": 5}',
            "gen_ai.tool.call.result": '{"found": true}',
        },
        {"tool_name": "order_lookup", "args_json": {"order": 5}, "result_summary": '{"found": true}'},
    ),
    "OpenTelemetry, arguments and result as objects": (
        GENAI_TOOL
        | {
            "gen_ai.tool.name": "order_lookup",
            "gen_ai.tool.call.id": "call-7",
            "gen_ai.tool.call.arguments": {"order": 5, "deep": {"list": [1, 2.5, None, True]}},
            "gen_ai.tool.call.result": {"found": True},
        },
        {
            "tool_name": "order_lookup",
            "args_json": {"order": 5, "deep": {"list": [1, 2.5, None, True]}},
            "result_summary": '{"found":true}',
        },
    ),
    "OpenInference": (
        OI_TOOL
        | {
            "tool.name": "order_lookup",
            "tool_call.id": "call-7",
            "tool_call.function.arguments": '{"order": 5}',
            "input.value": "not this",
            "output.value": "found",
        },
        {"tool_name": "order_lookup", "args_json": {"order": 5}, "result_summary": "found"},
    ),
    "OpenInference, arguments as the input": (
        OI_TOOL | {"tool.name": "order_lookup", "tool.id": "call-7", "input.value": "{'order': 5}"},
        {"tool_name": "order_lookup", "args_json": {"order": 5}, "result_summary": None},
    ),
    "OpenInference, the result as LangChain wraps it": (
        OI_TOOL
        | {
            "tool.name": "order_lookup",
            "tool.id": "call-7",
            "output.value": '{"type": "tool", "content": "found", "tool_call_id": "call-7", "status": "success"}',
        },
        {"tool_name": "order_lookup", "args_json": None, "result_summary": "found"},
    ),
    "OpenLLMetry": (
        LLMETRY_TOOL
        | {
            "traceloop.entity.name": "order_lookup",
            "gen_ai.tool.call.id": "call-7",
            "traceloop.entity.input": '{"order": 5}',
            "traceloop.entity.output": "found",
        },
        {"tool_name": "order_lookup", "args_json": {"order": 5}, "result_summary": "found"},
    ),
}


@pytest.mark.parametrize(("attributes", "fields"), TOOL_FIELDS.values(), ids=TOOL_FIELDS)
def test_tool_call_has_name_arguments_and_result(attributes: dict[str, Any], fields: dict[str, Any]) -> None:
    call = call_of(attributes)
    assert {name: getattr(call, name) for name in fields} == fields
    assert extra(call, "tool_call_id") == "call-7"
    assert call.call_id == id_of("it")


@pytest.mark.parametrize(
    ("title", "attributes", "tool"),
    [
        ("execute_tool order_lookup", GENAI_TOOL, "order_lookup"),
        ("order_lookup", OI_TOOL, "order_lookup"),
        ("x", GENAI_TOOL | {"gen_ai.tool.name": ""}, "x"),
        ("x", GENAI_TOOL | {"gen_ai.tool.name": 5}, "x"),
        ("", GENAI_TOOL, ""),
        ("y" * 5_000, GENAI_TOOL, "y" * 1_000),
        ("x", GENAI_TOOL | {"gen_ai.tool.name": "z" * 5_000}, "z" * 1_000),
    ],
)
def test_tool_without_a_name_is_named_after_its_span(title: str, attributes: dict[str, Any], tool: str) -> None:
    assert call_of(attributes, title=title).tool_name == tool


ARGUMENTS: dict[str, tuple[object, object]] = {
    "JSON": ('[1, {"a": "ü"}]', [1, {"a": "ü"}]),
    "a text that is no JSON": ("order 5", "order 5"),
    "JSON with a key twice, of which readers would see different halves": ('{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
    "JSON with a number that is none": ('{"a": NaN}', '{"a": NaN}'),
    "JSON with a number beyond a double": ('{"a": 1e999}', '{"a": 1e999}'),
    "JSON with a NUL": ('{"a": "\\u0000"}', '{"a": "\\u0000"}'),
    "JSON cut off": ('{"a": 1', '{"a": 1'),
    "a number": ("5", "5"),
    "null": ("null", "null"),
    "an empty text": ("", ""),
    "too long to be looked into": ("[" + "1," * 20_000 + "1]", ("[" + "1," * 20_000 + "1]")[:32_000]),
    "an object too long to be kept": ({"a": "b" * 40_000}, ('{"a":"' + "b" * 40_000)[:32_000]),
    "no text at all": (5, 5),
    "a flag": (True, True),
    "a list": (["a", 1], ["a", 1]),
    "a number that is none": (float("nan"), "nan"),
    "bytes": (b"\x00\xff", "AP8="),
}


@pytest.mark.parametrize(("given", "kept"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_are_parsed_only_if_they_are_a_json_object_or_list(given: object, kept: object) -> None:
    assert call_of(GENAI_TOOL | {"gen_ai.tool.call.arguments": given}).args_json == kept


SAID_TO_FAIL: dict[str, object] = {
    "LangChain": '{"type": "tool", "content": "no such order", "status": "error"}',
    "LangChain, with data": '{"type": "tool", "data": {"content": "no such order", "status": "error"}}',
    "MCP": '{"isError": true, "content": "no such order"}',
    "MCP, as an object": {"isError": True, "content": "no such order"},
}


@pytest.mark.parametrize("result", SAID_TO_FAIL.values(), ids=SAID_TO_FAIL)
def test_call_with_an_error_result_failed(result: object) -> None:
    call = call_of(GENAI_TOOL | {"gen_ai.tool.call.result": result}, status=1)
    assert call.status == "failure"
    assert "no such order" in (call.error_message or "")


@pytest.mark.parametrize(
    "result",
    ['{"type": "tool", "content": "found", "status": "success"}', '{"isError": false}', '{"isError": "true"}', "error"],
)
def test_other_results_are_not_failures(result: str) -> None:
    assert call_of(GENAI_TOOL | {"gen_ai.tool.call.result": result}).status == "success"


def test_error_attributes_take_precedence_over_the_result() -> None:
    result = '{"type": "tool", "content": "no such order", "status": "error"}'
    call = call_of(GENAI_TOOL | {"gen_ai.tool.call.result": result, "error.type": "TimeoutError"})
    assert call.status == "failure"
    assert call.error_class == "TimeoutError"
    assert call.error_message is None


def test_error_in_the_result_replaces_a_message_that_only_repeats_the_class() -> None:
    """Google ADK reports every error that a tool or a callback returns as `TOOL_ERROR`."""
    returned = {"gen_ai.tool.call.result": '{"error": "blocked by policy"}', "error.type": "TOOL_ERROR"}
    call = call_of(GENAI_TOOL | returned, status=2, message="TOOL_ERROR")

    assert (call.error_class, call.error_message) == ("TOOL_ERROR", '{"error": "blocked by policy"}')


def test_a_long_result_is_cut() -> None:
    assert call_of(GENAI_TOOL | {"gen_ai.tool.call.result": "r" * 50_000}).result_summary == "r" * 16_000


RETRIEVALS: dict[str, tuple[dict[str, Any], tuple[object, object, object]]] = {
    "OpenTelemetry": (
        RETRIEVAL | {"gen_ai.data_source.id": "faq", "gen_ai.retrieval.query.text": "refund?"},
        ("faq", "refund?", None),
    ),
    "OpenTelemetry with documents": (
        RETRIEVAL | {"gen_ai.retrieval.query": "q", "gen_ai.retrieval.documents": [{"id": "d1", "score": 0.5}]},
        ("it", "q", '[{"id":"d1","score":0.5}]'),
    ),
    "OpenInference": (
        OI_RETRIEVER
        | {
            "input.value": "refund?",
            **{f"retrieval.documents.{n}.document.content": f"text {n}" for n in (10, 2, 0)},
            "retrieval.documents.0.document.score": 0.1,
        },
        ("it", "refund?", '["text 0","text 2","text 10"]'),
    ),
    "OpenInference without documents": (OI_RETRIEVER | {"output.value": "none"}, ("it", None, "none")),
}


@pytest.mark.parametrize(("attributes", "fields"), RETRIEVALS.values(), ids=RETRIEVALS)
def test_retrieval_is_a_call_named_after_its_source(
    attributes: dict[str, Any], fields: tuple[object, object, object]
) -> None:
    call = call_of(attributes)
    assert (call.tool_name, call.args_json, call.result_summary) == fields


@pytest.mark.parametrize(
    ("attributes", "status_code"),
    [
        ({"http.response.status_code": 404}, 404),
        ({"http.status_code": 404}, 404),
        ({"http.response.status_code": 500, "http.status_code": 404}, 500),
        ({"http.response.status_code": -1}, None),
        ({"http.response.status_code": 100_000}, None),
        ({"http.response.status_code": "404"}, None),
        ({"http.response.status_code": True}, None),
        ({"http.response.status_code": [404]}, None),
    ],
)
def test_status_code_is_kept_if_it_is_valid(attributes: dict[str, Any], status_code: int | None) -> None:
    assert call_of(GENAI_TOOL | attributes).status_code == status_code


@pytest.mark.parametrize(
    ("count", "retries"), [(3, 3), (0, 0), (-1, 0), (2**63 - 1, 2**63 - 1), ("3", 0), (True, 0), (2.0, 0), ([1], 0)]
)
def test_retries_are_kept_if_they_are_a_count(count: object, retries: int) -> None:
    attributes = {"http.request.resend_count": count}
    assert call_of(GENAI_TOOL | attributes).retries == retries
    assert step_of(CHAT | attributes).retries == retries


USAGES: dict[str, tuple[dict[str, Any], tuple[object, object]]] = {
    "OpenTelemetry": ({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 4}, (10, 4)),
    "OpenTelemetry of old": ({"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 4}, (10, 4)),
    "both": ({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.prompt_tokens": 99}, (10, None)),
    "OpenInference": ({"llm.token_count.prompt": 10, "llm.token_count.completion": 4}, (10, 4)),
    "doubles": ({"gen_ai.usage.input_tokens": 10.0, "gen_ai.usage.output_tokens": 4.5}, (10, None)),
    "negative": ({"gen_ai.usage.input_tokens": -10, "gen_ai.usage.output_tokens": -0.5}, (None, None)),
    "not finite": ({"gen_ai.usage.input_tokens": float("nan"), "gen_ai.usage.output_tokens": float("inf")}, (None, None)),
    "too many": ({"gen_ai.usage.input_tokens": 1e300, "gen_ai.usage.output_tokens": 2**63 - 1}, (None, 2**63 - 1)),
    "texts": ({"gen_ai.usage.input_tokens": "10", "gen_ai.usage.output_tokens": ""}, (10, None)),
    "flags": ({"gen_ai.usage.input_tokens": True, "gen_ai.usage.output_tokens": False}, (None, None)),
    "lists": ({"gen_ai.usage.input_tokens": [10], "gen_ai.usage.output_tokens": {"n": 1}}, (None, None)),
    "zero": ({"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}, (0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("attributes", "tokens"), USAGES.values(), ids=USAGES)
def test_tokens_are_kept_if_they_are_counts(attributes: dict[str, Any], tokens: tuple[object, object]) -> None:
    run = run_of(span("root", None, AGENT), span("it", "root", CHAT | attributes))
    [step] = run.steps
    assert (extra(step, "tokens_prompt"), extra(step, "tokens_completion")) == tokens
    cost = (run.cost.tokens_prompt, run.cost.tokens_completion) if run.cost else (None, None)
    assert cost == tokens


@pytest.mark.parametrize(
    ("attributes", "cost_usd"),
    [
        ({"llm.cost.total": 0.25}, 0.25),
        ({"gen_ai.usage.cost": 0.25}, 0.25),
        ({"gen_ai.usage.cost": 1}, 1.0),
        ({"operation.cost": 0.25}, 0.25),
        ({"gen_ai.usage.cost": 0.0}, None),
        ({"gen_ai.usage.cost": -0.25}, None),
        ({"gen_ai.usage.cost": float("inf")}, None),
        ({"gen_ai.usage.cost": 1e13}, None),
        ({"gen_ai.usage.cost": "0.25"}, None),
        ({"gen_ai.usage.cost": True}, None),
    ],
)
def test_cost_is_kept_if_it_is_an_amount(attributes: dict[str, Any], cost_usd: float | None) -> None:
    run = run_of(span("root", None, AGENT), span("it", "root", CHAT | attributes))
    assert (run.cost.total_cost_usd if run.cost else None) == cost_usd


@pytest.mark.parametrize(
    ("attributes", "model"),
    [
        ({"gen_ai.request.model": "gpt-x"}, "gpt-x"),
        ({"gen_ai.request.model": "gpt-x", "gen_ai.response.model": "gpt-x-0613"}, "gpt-x"),
        ({"gen_ai.response.model": "gpt-x-0613"}, "gpt-x-0613"),
        ({"llm.model_name": "gpt-x"}, "gpt-x"),
        ({"gen_ai.request.model": 4}, None),
        ({"gen_ai.request.model": ""}, None),
        ({}, None),
    ],
)
def test_a_step_names_its_model_and_so_does_the_run(attributes: dict[str, Any], model: str | None) -> None:
    run = run_of(span("root", None, AGENT), span("it", "root", {"gen_ai.operation.name": "chat"} | attributes))
    assert extra(run.steps[0], "model") == model
    assert run.model == model


def test_an_embedding_names_its_model_but_not_the_runs() -> None:
    attributes = {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "ada", "llm.token_count.prompt": 3}
    run = run_of(span("root", None, AGENT), span("it", "root", attributes))
    assert extra(run.steps[0], "model") == "ada"
    assert run.model is None
    assert run.cost is not None
    assert run.cost.tokens_prompt == 3


def test_unusual_attributes_stay_out_of_the_timeline() -> None:
    step = step_of(CHAT | {"secret.header": "hunter2", "x": {"y": 1}})
    assert "hunter2" not in json.dumps(step.model_dump(mode="json"))
