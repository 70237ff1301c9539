"""The attribute names that the mapper reads: each is a name of the conventions or of a producer listed here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import opentelemetry.semconv._incubating.attributes
import opentelemetry.semconv.attributes
from openinference.semconv import trace

from relab.telemetry import otlp
from relab.telemetry.otlp import dialects
from tests.support.source import syntax_tree

DOTTED = re.compile(r"[a-z][A-Za-z_]*(\.[A-Za-z0-9_]+)+\.?")
PRODUCERS = (
    "agentops.", "ai.", "braintrust.", "gcp.vertex.agent.", "instructor.", "langfuse.", "litellm.", "lk.", "lmnr.", "langsmith.", "mastra.", "mlflow.", "pydantic_ai.", "relab.",
    "spring.ai.", "traceloop.",
)  # fmt: skip
"""The prefixes of names that one producer alone uses: the Vercel AI SDK, Google ADK, and so on."""
FLATTENED_LISTS = {
    "gen_ai.completion.", "gen_ai.prompt.", "llm.input_messages.", "llm.output_messages.", "llm.tools.", "message.contents.", "message.tool_calls.",
    "gen_ai.input.messages.", "gen_ai.output.messages.", "retrieval.documents.", "tool.parameters.", "tool.arguments.", "tool.args.", "tool.params.", "tool.input.",
}  # fmt: skip
"""Prefixes: the conventions name the list, each attribute has an index and a field."""
IN_NO_PACKAGE = {
    "gen_ai.event.content",  # OpenTelemetry's body of an event, before events had attributes
    "gen_ai.content.prompt", "gen_ai.content.completion",  # the events of Semantic Kernel
    "gen_ai.system.message", "gen_ai.user.message", "gen_ai.assistant.message", "gen_ai.tool.message", "gen_ai.choice",
    "gen_ai.client.inference.operation.details",  # names of events
    "gen_ai.response.finish_reason",  # Semantic Kernel
    "gen_ai.span.kind",  # traceAI
    "metadata.path", "metadata.class_name",  # OpenInference's instrumentation of BeeAI
    "gen_ai.retrieval.query",  # before it became gen_ai.retrieval.query.text
    "gen_ai.usage.cost",  # OpenRouter and LiteLLM
    "operation.cost",  # pydantic-ai and Logfire
    "conversation.type", "turn.number",  # Pipecat
    "status.interrupted",  # Effect
    "gen_ai.usage",  # the name of Ax's event with tokens
    "metadata.tool_call_id",  # OpenHands, behind a prefix of Laminar
    "operation.name", "tool.call.type",  # AgentOps
    "gen_ai.cost.total_cost", "llm.user", "metadata.requester_metadata", "metadata.usage_object", "metadata.user_api_key_end_user_id",  # LiteLLM's proxy
    "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.reasoning_tokens",
    "llm.request.type",  # OpenLLMetry
    "gen_ai.usage.cache_write_input_tokens", "gen_ai.tool.json_schema",  # AWS Strands
    "gen_ai.usage.input_tokens.cached", "gen_ai.usage.output_tokens.reasoning",  # Sentry
    "gen_ai.usage.details.",  # pydantic-ai
    "gen_ai.usage.experimental.reasoning_tokens",  # Google ADK
    "gen_ai.usage.input_token_details", "gen_ai.usage.output_token_details",  # LangSmith
    "guardrail.passed", "guardrail.result", "guardrail.triggered",  # OpenInference names the kind of span only
    "logfire.msg", "logfire.msg_template", "logfire.span_type",  # pydantic-ai and Logfire
    "resource.name",  # the Vercel AI SDK
    "agent.input", "agent.output", "tool.call.id", "tool.args", "tool.arguments", "tool.input", "tool.output", "tool.result",
    "agent.request", "agent.response", "agent.question", "agent.answer", "tool.response", "response.model",
    "messages.0.role", "response.message", "response.choices.0.message", "llm.response.message", "output.message",
    "choices.0.message", "response.usage.", "llm.request.", "llm.response.usage.", "llm.usage.",
    # hand-written instrumentation
    "conversation.id", "entity.name", "entity.type", "memory.operation", "span.type", "subagent.name",
    "llm.messages", "llm.model", "usage.cached_tokens", "usage.completion_tokens", "usage.prompt_tokens",
    "usage.reasoning_tokens",  # VoltAgent
    "claude_code.api_request", "claude_code.assistant_response", "claude_code.tool_result", "claude_code.user_prompt",
    "tool.blocked_on_user", "tool.execution",  # events and types of spans of Claude Code
    "codex.tool_result", "codex.user_prompt", "session_task.turn",  # events and a span of Codex CLI
    "codex.turn.token_usage.total_tokens", "gen_ai.tool.call_id", "tool.call_id",  # Codex CLI, Gemini CLI, Qwen Code
    "db.vector.query.content", "db.vector.query.response.documents",  # Spring AI
}  # fmt: skip


def conventions() -> Iterator[str]:
    """Yield every attribute name of both packages."""
    for package in (opentelemetry.semconv.attributes, opentelemetry.semconv._incubating.attributes):
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            yield from (value for value in vars(import_module(module.name)).values() if isinstance(value, str))
    for member in vars(trace).values():
        if isinstance(member, type):
            yield from (value for value in vars(member).values() if isinstance(value, str))


def names_read() -> Iterator[str]:
    """Yield the dotted names in the modules of the mapper, except names in docstrings and names of modules."""
    for folder in (*otlp.__path__, *dialects.__path__):
        for file in Path(folder).glob("*.py"):
            for node in ast.walk(syntax_tree(file)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
                    yield node.value


def unlisted() -> set[str]:
    """Return the names read, without list indexes, that neither a package nor the prefix of a producer covers."""
    known = {*conventions(), *FLATTENED_LISTS}
    names = {name for name in names_read() if not name.startswith((*PRODUCERS, *FLATTENED_LISTS))}
    return names - known


def test_every_attribute_name_is_one_that_producers_send() -> None:
    assert unlisted() - IN_NO_PACKAGE == NOT_ATTRIBUTES


def test_every_listed_exception_is_read_and_is_in_no_package() -> None:
    exceptions = FLATTENED_LISTS | IN_NO_PACKAGE

    assert exceptions - set(names_read()) == set()
    assert exceptions & set(conventions()) == set()


NOT_ATTRIBUTES = {
    "model.name", "span_attributes.type",  # of Langfuse and Braintrust, after their prefixes
    "chat.completion",  # a kind of object in OpenAI's API
}  # fmt: skip
