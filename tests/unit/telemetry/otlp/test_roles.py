"""The role of a span (step, tool call or neither), from the attributes of each dialect."""

from __future__ import annotations

from typing import Any

import pytest

from relab.telemetry.models import AgentRun
from unit.telemetry.otlp.builders import AGENT, extra, run_of, span

STEPS = {
    "OpenTelemetry: a chat": ({"gen_ai.operation.name": "chat"}, "llm"),
    "OpenTelemetry: a completion": ({"gen_ai.operation.name": "text_completion"}, "llm"),
    "OpenTelemetry: generated content": ({"gen_ai.operation.name": "generate_content"}, "llm"),
    "OpenTelemetry: embeddings": ({"gen_ai.operation.name": "embeddings"}, "embedding"),
    "OpenTelemetry: an agent": ({"gen_ai.operation.name": "invoke_agent"}, "agent"),
    "OpenTelemetry: the making of an agent": ({"gen_ai.operation.name": "create_agent"}, "chain"),
    "OpenTelemetry: a workflow": ({"gen_ai.operation.name": "invoke_workflow"}, "chain"),
    "OpenTelemetry: a plan": ({"gen_ai.operation.name": "plan"}, "chain"),
    "OpenTelemetry before operations: a model": (
        {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4", "gen_ai.usage.prompt_tokens": 1},
        "llm",
    ),
    "OpenTelemetry: an operation of a later version, with a model": (
        {"gen_ai.operation.name": "dream", "gen_ai.request.model": "gpt-4"},
        "llm",
    ),
    "OpenTelemetry: an agent's name alone": ({"gen_ai.agent.name": "planner"}, "agent"),
    "OpenInference: LLM": ({"openinference.span.kind": "LLM"}, "llm"),
    "OpenInference: EMBEDDING": ({"openinference.span.kind": "EMBEDDING"}, "embedding"),
    "OpenInference: CHAIN": ({"openinference.span.kind": "CHAIN"}, "chain"),
    "OpenInference: RERANKER": ({"openinference.span.kind": "RERANKER"}, "reranker"),
    "OpenInference: AGENT": ({"openinference.span.kind": "AGENT"}, "agent"),
    "OpenInference: GUARDRAIL that passes": ({"openinference.span.kind": "GUARDRAIL"}, "guardrail"),
    "OpenInference: EVALUATOR": ({"openinference.span.kind": "EVALUATOR"}, "evaluator"),
    "OpenInference: PROMPT": ({"openinference.span.kind": "PROMPT"}, "prompt"),
    "OpenInference: a kind of a later version, with a model": (
        {"openinference.span.kind": "ORACLE", "llm.model_name": "gpt-4"},
        "llm",
    ),
    "OpenInference without a kind: a model": ({"llm.model_name": "gpt-4"}, "llm"),
    "OpenLLMetry: workflow": ({"traceloop.span.kind": "workflow"}, "chain"),
    "OpenLLMetry: task": ({"traceloop.span.kind": "task"}, "chain"),
    "OpenLLMetry: agent": ({"traceloop.span.kind": "agent"}, "agent"),
    "OpenLLMetry: a model": ({"llm.request.type": "chat", "gen_ai.request.model": "gpt-4"}, "llm"),
    "two dialects: OpenTelemetry's operation counts": (
        {"gen_ai.operation.name": "chat", "openinference.span.kind": "CHAIN", "traceloop.span.kind": "task"},
        "llm",
    ),
    "two dialects: OpenInference's kind counts before signs": (
        {"openinference.span.kind": "CHAIN", "gen_ai.request.model": "gpt-4"},
        "chain",
    ),
}
CALLS = {
    "OpenTelemetry: a tool": ({"gen_ai.operation.name": "execute_tool"}, "tool"),
    "OpenTelemetry: retrieval": ({"gen_ai.operation.name": "retrieval"}, "retriever"),
    "OpenTelemetry: a tool's name alone": ({"gen_ai.tool.name": "search"}, "tool"),
    "OpenInference: TOOL": ({"openinference.span.kind": "TOOL"}, "tool"),
    "OpenInference: RETRIEVER": ({"openinference.span.kind": "RETRIEVER"}, "retriever"),
    "OpenInference without a kind: a tool's name": ({"tool.name": "search"}, "tool"),
    "OpenLLMetry: tool": ({"traceloop.span.kind": "tool"}, "tool"),
    "a tool that names the model which asked for it": (
        {"gen_ai.tool.name": "search", "gen_ai.request.model": "gpt-4"},
        "tool",
    ),
}
NEITHER: dict[str, dict[str, Any]] = {
    "nothing": {},
    "HTTP": {"http.request.method": "GET", "url.full": "http://localhost/x", "http.response.status_code": 500},
    "a database": {"db.system": "postgresql", "db.operation.name": "SELECT"},
    "a conversation alone": {"gen_ai.conversation.id": "c", "session.id": "s"},
    "an operation that is no text": {"gen_ai.operation.name": 7},
    "a kind that is no text": {"openinference.span.kind": ["LLM"]},
    "an empty operation": {"gen_ai.operation.name": ""},
    "an operation that nobody knows": {"gen_ai.operation.name": "dream"},
}


def below_an_agent(attributes: dict[str, Any]) -> AgentRun:
    return run_of(span("root", None, AGENT), span("it", "root", attributes))


@pytest.mark.parametrize(("attributes", "role"), STEPS.values(), ids=STEPS)
def test_agent_and_model_spans_are_steps(attributes: dict[str, Any], role: str) -> None:
    run = below_an_agent(attributes)
    assert [extra(step, "span_kind") for step in run.steps] == [role]
    assert run.tool_calls == []


@pytest.mark.parametrize(("attributes", "role"), CALLS.values(), ids=CALLS)
def test_tools_and_retrievers_are_calls(attributes: dict[str, Any], role: str) -> None:
    run = below_an_agent(attributes)
    assert [extra(call, "span_kind") for call in run.tool_calls] == [role]
    assert run.steps == []


@pytest.mark.parametrize("attributes", NEITHER.values(), ids=NEITHER)
def test_other_spans_are_not_part_of_the_timeline(attributes: dict[str, Any]) -> None:
    run = below_an_agent(attributes)
    assert [run.steps, run.tool_calls, run.guardrail_events] == [[], [], []]
