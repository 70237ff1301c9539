"""Hypothesis strategies: malformed and hostile spans, and several reports of one span."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from unit.telemetry.otlp.builders import TRACE, any_value, at, id_of

KEYS = (
    "gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind", "gen_ai.agent.name",
    "gen_ai.agent.version", "gen_ai.tool.name", "tool.name", "gen_ai.tool.call.id", "tool_call.id",
    "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.request.model", "gen_ai.response.model",
    "llm.model_name", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.response.finish_reasons",
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "llm.token_count.prompt", "gen_ai.usage.cost",
    "llm.cost.total", "gen_ai.conversation.id", "session.id", "error.type", "error.message", "exception.type",
    "http.response.status_code", "http.request.resend_count", "input.value", "output.value",
    "traceloop.entity.name", "traceloop.entity.input", "guardrail.passed", "guardrail.result",
    "guardrail.triggered", "relab.task_id", "relab.prompt_hash", "gen_ai.data_source.id",
    "gen_ai.retrieval.query.text", "retrieval.documents.0.document.content", "retrieval.documents.x",
    "llm.input_messages.0.message.content", "llm.output_messages.0.message.tool_calls.0.tool_call.function.name",
    "llm.output_messages.0.message.contents.0.message_content.text", "gen_ai.prompt.0.content", "gen_ai.completion.1",
    "metadata", "ai.operationId", "ai.toolCall.name", "ai.toolCall.args", "ai.prompt", "ai.prompt.messages",
    "ai.response.toolCalls", "ai.telemetry.functionId", "mlflow.spanType", "mlflow.spanInputs", "mlflow.spanOutputs",
    "mlflow.chat.tokenUsage", "langsmith.span.kind", "gen_ai.prompt", "gen_ai.completion", "langfuse.observation.type",
    "langfuse.observation.input", "langfuse.observation.output", "gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_call_args", "pydantic_ai.all_messages", "agent_name", "tool_arguments", "tool_response", "final_result",
    "traceloop.workflow.name", "traceloop.entity.output", "llm.invocation_parameters", "gen_ai.event.content", "gen_ai.prompt.0.role",
    "gen_ai.prompt.0.tool_calls.0.name", "llm.input_messages.0.message.tool_call_id", "tool.result", "user.id",
    "content", "tool_calls", "message", "id", "body",
    "agent.name", "span.type", "entity.type", "events", "logfire.span_type", "tool_name", "user_prompt", "decision", "cache_read_tokens",
    "service.name", "service.version", "deployment.environment.name", "", "x\x00y",
)  # fmt: skip
ROLES = (
    "invoke_agent", "create_agent", "invoke_workflow", "plan", "execute_tool", "chat", "text_completion",
    "retrieval", "embeddings", "LLM", "CHAIN", "AGENT", "TOOL", "RETRIEVER", "GUARDRAIL", "EVALUATOR", "RERANKER",
    "PROMPT", "workflow", "task", "agent", "tool", "ai.toolCall", "ai.generateText", "ai.generateText.doGenerate", '"TOOL"', '"AGENT"',
    '"CHAT_MODEL"', "generation", "interaction", "llm_request", "tool.execution", "tool.blocked_on_user", "reject", "log",
)  # fmt: skip
PHRASES = (
    '{"lc_agent_name": "a\\u0000b"}', '{"lc_agent_name": 5}', '["lc_agent_name"]', '{"lc_agent_name": NaN}',
    '{"type": "tool", "status": "error", "content": "a\\u0000b"}', '{"isError": true, "content": [1e999]}',
    "", "\x00", "a\x00b", "[", "{}", "[]", "null", "5", "1e999", '"\\u0000"', '[{"content": "\\u0000"}]', "fail",
    '[{"role": "user", "parts": [{"type": "tool_call", "id": "call-1", "name": "f", "arguments": [1e999]}]}]',
    '[{"parts": [null, 5, [], {"type": "tool_call", "id": 5}, {"type": "tool_call", "id": ""}]}]',
    '{"messages": [[{"role": {"value": 5}, "content": [{"text": {"a": "b\\u0000"}}, {"toolUse": 5}, {"functionCall": {"name": "f"}}]}]]}',
    '[{"role": "tool", "content": null, "tool_call_id": []}, {"parts": [{"part_kind": "retry-prompt", "tool_name": "f"}]}]',
    '[{"role": "assistant", "tool_calls": [{"id": "call-1", "function": {"name": "f\\u0000", "arguments": "{\\"a\\": \\"\\\\u0000\\"}"}}]}]',
    '[{"event.name": 5, "message": 5}, {"event.name": "gen_ai.choice", "message": [1]}]', '[{"event.name": "gen_ai.choice"}, 5]',
    '[{"type": "function_call_output", "call_id": "call-1", "output": {"type": "error-text", "value": [1e999]}}]',
    '{"contents": [{"parts": [{"function_response": {"name": "f", "response": {"isError": true}}}]}], "model": 5}',
    '{"args": [{"a": 1}], "kwargs": {}}', '{"kwargs": {"args": [1]}, "args": 5}', "content='a' name='f' tool_call_id='call-1' status='error'",
    "Error code: 429 - {'code': 'x'}; try again in 99999999s, limit 99999999999999999", "{'message': 'm', 'data': {'error': 'e'}}",
    '{"type": "tool", "content": {"a": [1]}}', "content_filter", "call-1", "CancelledError", "x.GraphInterrupt",
    "[" * 300, "9" * 5_000, '[{"content": ' + "9" * 400 + "}]", "\u2028😀", "unknown_service", "a/b",
)  # fmt: skip

EVENTS = (
    "gen_ai.choice", "gen_ai.user.message", "gen_ai.tool.message", "gen_ai.assistant.message", "gen_ai.content.prompt",
    "gen_ai.content.completion", "gen_ai.client.inference.operation.details", "claude_code.user_prompt", "claude_code.tool_result",
    "claude_code.assistant_response", "tool.output",
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 404, 2**63 - 1, -(2**63)])
    | st.sampled_from([0.5, -0.0, 1e12, 1e300, float("nan"), float("inf"), float("-inf")])
    | st.sampled_from(ROLES)
    | st.sampled_from(PHRASES)
    | st.binary(max_size=3)
)
values = scalars | st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
)
attribute_lists = st.lists(
    st.tuples(st.sampled_from(KEYS), values) | st.tuples(st.sampled_from(KEYS[:3]), st.sampled_from(ROLES)), max_size=8
)
NAMES = ("a", "b", "c", "d", "e", "f")
span_names = st.sampled_from(NAMES)
parents = st.sampled_from([None, None, *NAMES, "far"])


def pairs(attributes: list[tuple[str, Any]]) -> list[KeyValue]:
    """Encode attributes as key-value pairs; keys may repeat."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes]


events = st.builds(
    lambda name, time, attributes: SpanMessage.Event(name=name, time_unix_nano=time, attributes=pairs(attributes)),
    st.sampled_from(["exception", "exception", *EVENTS, "", "a\x00"]),
    st.sampled_from([0, 1, at(1), at(2), 2**64 - 1]),
    attribute_lists.map(
        lambda pairs: [("exception.type" if n == 0 else key, value) for n, (key, value) in enumerate(pairs)]
    ),
)
links = st.builds(
    lambda name, attributes: SpanMessage.Link(
        trace_id=TRACE, span_id=bytes.fromhex(id_of(name)), attributes=pairs(attributes)
    ),
    span_names,
    attribute_lists,
)


@st.composite
def spans(draw: st.DrawFn, *, name: str | None = None) -> SpanMessage:
    """Draw a span that the decoder accepts, with any attributes; `name` sets its id."""
    parent = draw(parents)
    made = SpanMessage(
        trace_id=TRACE,
        span_id=bytes.fromhex(id_of(draw(span_names) if name is None else name)),
        parent_span_id=b"" if parent is None else bytes.fromhex(id_of(parent)),
        name=draw(
            st.sampled_from(["", "chat gpt", "invoke_agent ", "execute_tool x", "claude_code.x", "a\x00b", "n" * 2_000])
        ),
        start_time_unix_nano=draw(st.sampled_from([1_000, at(0), at(1), at(1.5)])),
        end_time_unix_nano=draw(st.sampled_from([0, 1_000, at(0), at(2), at(10**9)])),
        attributes=pairs(draw(attribute_lists)),
        events=draw(st.lists(events, max_size=2)),
        links=draw(st.lists(links, max_size=1)),
        kind=draw(st.integers(0, 5)),  # type: ignore[arg-type]
        flags=draw(st.integers(0, 3)),
        trace_state=draw(st.sampled_from(["", "a=1", "b=2"])),
        dropped_attributes_count=draw(st.integers(0, 2)),
    )
    if draw(st.booleans()):
        made.status.code = draw(st.sampled_from([0, 1, 2, 7]))
        made.status.message = draw(st.sampled_from(["", "boom", "a\x00b"]))
    return made


def traces(*, max_size: int = 8) -> st.SearchStrategy[list[SpanMessage]]:
    """Draw the spans of one trace, each once."""
    return st.lists(spans(), min_size=1, max_size=max_size, unique_by=lambda span: span.span_id)
