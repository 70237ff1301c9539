"""The dialect of OpenInference, which instruments LangChain, LlamaIndex, smolagents, CrewAI and other frameworks.

traceAI has the same structure: its kinds of spans and its messages have other prefixes, and the rest has the names of
the GenAI conventions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span
from relab.telemetry.otlp.text import as_text, numbered

_KIND: Final = "openinference.span.kind"
_TRACE_AI_KIND: Final = "gen_ai.span.kind"
_NODE: Final = "graph.node.id"
_INPUTS: Final = "llm.input_messages."
_OUTPUTS: Final = "llm.output_messages."
_DOCUMENTS: Final = "retrieval.documents."

# Attributes of spans that are called agents because "agent" is in their name. Token counts are not used here, because
# some agents repeat the counts of their models.
_NO_AGENTS: Final = (
    ("tool.name", Role.TOOL),
    ("retrieval.documents", Role.RETRIEVER),
    ("retrieval.documents.0.document.content", Role.RETRIEVER),
)
_PLUMBING: Final = re.compile(
    # LangChain and LangGraph
    r"Runnable\w*(<.*>)?|\w*Prompt(Template)?|\w*OutputParser|Channel(Write|Read)(<.*>)?|_\w+|should_continue|tools_condition"
    # LlamaIndex
    r"|\w+\.(init_run|setup_agent|run_agent_step|parse_agent_output|call_tool|aggregate_tool_results|take_step|finalize"
    r"|handle_tool_call_results|_\w+)"
)
AGENT_NODES: Final = frozenset(("agent", "model", "call_model", "tools"))
"""The nodes of LangGraph's own agents: each encloses only one call of a model, or only calls of tools."""
_TOOL_METHOD: Final = re.compile(r"(.+)\.(?:__call__|acall)", re.DOTALL)
"""The name of a DSPy tool, whose span has no other name than this method of the tool."""
_HANDOFF_TOOL: Final = re.compile(r"handoff_to_|$")
_PRIVATE_METHOD: Final = re.compile(r"\w\._(?!_)\w+$")
_FIRST_TEXT: Final = f"{_INPUTS}0.message.content"
_FIRST_PART: Final = f"{_INPUTS}0.message.contents.0.message_content.text"
_STUCK_AGENT: Final = re.compile(
    r"\s*An agent tried to answer a user query but it (?:got stuck and )?failed to do so\b"
)
"""The prompt with which smolagents asks for a last answer when an agent has reached its limit of steps."""
_LAST_CHANCE: Final = "you MUST give your absolute best final answer"
_MAX_DEMAND_CHARS: Final = 500
_AGNO_NOTICE: Final = re.compile(
    r"I have tools to execute, but (?:I need|it needs) [a-z, ]{1,100}\.|Operation cancelled by user|Run [\w-]{1,100} was cancelled"
)
"""What Agno writes in place of an answer if a run waits for a person or a program, or was cancelled."""
_RESPONSE_MODEL: Final = "instructor.response_model"
_MEMORY_STEP: Final = '{"memory_step": "'
_REFUSAL: Final = re.compile(r'"refusal":\s?(?P<words>"(?:[^"\\]|\\.){1,10000}")')
_PRINTED_CHOICE: Final = re.compile(r"\w\(finish_reason='(\w{1,50})'")
"""The choice of an answer as Python prints it; an answer that quotes only the field is no such choice."""
_MAX_METADATA_CHARS = 100_000
_MAX_OUTPUT_CHARS = 1_000_000


def _translate(span: Span, values: Values) -> None:
    if _is_event(span):
        # BeeAI exports events of its agents, models and tools as spans of the kinds AGENT, LLM and TOOL.
        values[v.ROLE] = Role.TOOL if values.get(v.ROLE) is Role.TOOL else Role.CHAIN
        values[v.IS_PLUMBING] = True
    else:
        _translate_work(span, values)


def _translate_work(span: Span, values: Values) -> None:
    """Add the role, messages, model, agent and tool of a span that is more than an event (`_is_event`) to `values`."""
    attributes = span.attributes
    if str(attributes.get("input.value", "")).startswith(_MEMORY_STEP):
        # smolagents prints its own state to this attribute.
        del values[v.INPUT]
    metadata = _metadata(attributes)
    is_node = span.name in AGENT_NODES and metadata.get("langgraph_node") == span.name
    graph = _graph_name(span, metadata)
    role = Role.CHAIN if is_node else Role.AGENT if graph is not None else _role(span, values.get(v.ROLE))
    if role is not None:
        values[v.ROLE] = role
    _add_messages(attributes, values)
    add(values, v.AGENT_NAME, _text(metadata.get("lc_agent_name")) or graph)
    add(values, v.CONVERSATION_ID, _text(metadata.get("thread_id")) or _text(metadata.get("session_id")))
    if role is Role.LLM:
        _add_model(attributes, metadata, values)
        if _STUCK_AGENT.match(text_of(attributes, _FIRST_TEXT, _FIRST_PART) or ""):
            add(values, v.FINISH_REASONS, ["max_steps"])
        elif _is_last_chance(values.get(v.INPUT_MESSAGES)):
            values[v.FINISH_REASONS] = ["max_iterations"]
        _add_raw_end(attributes, values)
    elif role is Role.RETRIEVER:
        documents = numbered(attributes, _DOCUMENTS)
        if documents:
            add(values, v.DOCUMENTS, [fields.get("document.content") for _, fields in sorted(documents.items())])
    elif role is Role.AGENT:
        _add_agent(span, values)
    elif role is Role.TOOL:
        method = _TOOL_METHOD.fullmatch(span.name)
        add(values, v.TOOL_NAME, method and method[1])
    elif role is Role.HANDOFF:
        add(values, v.HANDOVER_TO, _next_agent(span))
    elif role in (Role.CHAIN, Role.PROMPT) and (is_node or _PLUMBING.fullmatch(span.name)):
        values[v.IS_PLUMBING] = True
        _add_current_agent(span, values)


def _is_event(span: Span) -> bool:
    """Return whether a span reports no work, but an event (such as an error) that happened in the span around it."""
    path = span.attributes.get("metadata.path")
    return isinstance(path, str) and path.endswith(f".{span.name}") and "metadata.class_name" not in span.attributes


def _graph_name(span: Span, metadata: Mapping[str, Any]) -> str | None:
    """Return the name that the program gave to a LangGraph.js graph.

    Return None if `span` is not the span of a graph, or if the graph has only the default name.
    """
    is_graph = metadata.get("ls_integration") == "langgraph" and "langgraph_step" not in metadata
    return span.name if is_graph and span.name != "LangGraph" else None


def _role(span: Span, declared: Role | None) -> Role | None:
    """Return the role of a span: `declared`, unless the attributes or the name of the span show another role.

    `declared` is the role that the instrumentation reports; None if it reports no role.
    """
    attributes = span.attributes
    if declared is Role.AGENT:
        if attributes.get("llm.system") == "openai" and _NODE not in attributes:
            # The OpenAI Agents SDK for JavaScript reports the whole workflow as an agent.
            return Role.CHAIN
        return next((other for sign, other in _NO_AGENTS if sign in attributes), declared)
    if declared is Role.LLM and _PRIVATE_METHOD.search(span.name):
        # LlamaIndex reports the preparation of a model call as a model call.
        return Role.CHAIN
    if declared is Role.TOOL:
        # In JavaScript, the span of a hand-over also has the name of a tool.
        is_handoff = span.name.startswith("handoff to ") and _HANDOFF_TOOL.match(str(attributes.get("tool.name", "")))
        if is_handoff or (
            attributes.get("tool.name") == "handoff" and '"to_agent"' in str(attributes.get("input.value"))
        ):
            return Role.HANDOFF
    return declared


def _next_agent(span: Span) -> str | None:
    """Return the name of the agent that takes over in a hand-over span; None if the span does not name it."""
    # The OpenAI Agents SDK has the name in the span's name, LlamaIndex in the arguments of the tool.
    if span.name.startswith("handoff to "):
        return _text(span.name.removeprefix("handoff to "))
    found = re.search(r'"to_agent":\s*"([^"\\]{1,500})"', text_of(span.attributes, "input.value") or "")
    return found and found[1]


def _add_current_agent(span: Span, values: Values) -> None:
    """If a span reports one step of a LlamaIndex agent, set its role to agent, and add the agent's name to `values`."""
    if span.name.endswith(".run_agent_step"):
        # The input of the step is a Python object, printed as text.
        found = re.search(r"current_agent_name='([^']{1,500})'", text_of(span.attributes, "input.value") or "")
        if found is not None:
            values[v.ROLE] = Role.AGENT
            values[v.AGENT_NAME] = found[1]


def _add_messages(attributes: Attributes, values: Values) -> None:
    prefixes = (
        ("gen_ai.input.messages.", "gen_ai.output.messages.") if _TRACE_AI_KIND in attributes else (_INPUTS, _OUTPUTS)
    )
    for prefix, name in zip(prefixes, (v.INPUT_MESSAGES, v.OUTPUT_MESSAGES), strict=True):
        if values.get(name) is None:
            messages = numbered(attributes, prefix)
            if messages:
                # A graph's span may have the role of a message without the message.
                found = [
                    _message(fields) for _, fields in sorted(messages.items()) if fields.keys() != {"message.role"}
                ]
                values[name] = found or None
    if _RESPONSE_MODEL in attributes and values.get(v.OUTPUT) is not None:
        # Instructor returns an object, which is the answer whatever its fields.
        add(values, v.OUTPUT_MESSAGES, [{"role": "assistant", "content": as_text(values[v.OUTPUT])}])


def _message(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a chat completion message. `fields` are the fields of the message, read from the attributes of a span."""
    content = as_text(fields.get("message.content"))
    contents = [part for _, part in sorted(numbered(fields, "message.contents.").items())]
    texts = [text for part in contents if (text := as_text(part.get("message_content.text")))]
    if content and content != "\n".join(texts):
        texts.insert(0, content)
    calls = [
        {
            "id": call.get("tool_call.id"),
            "name": call.get("tool_call.function.name"),
            "arguments": call.get("tool_call.function.arguments"),
        }
        for _, call in sorted(numbered(fields, "message.tool_calls.").items())
    ]
    name = fields.get("message.function_call_name")
    if name:
        calls.append({"name": name, "arguments": fields.get("message.function_call_arguments_json")})
    message = {
        "role": fields.get("message.role"),
        "content": [{"type": "text", "text": text} for text in dict.fromkeys(texts)],
        "tool_calls": calls,
        "tool_call_id": fields.get("message.tool_call_id"),
        "name": fields.get("message.name"),
    }
    return {key: value for key, value in message.items() if value is not None}


def _metadata(attributes: Attributes) -> Mapping[str, Any]:
    """Return the metadata that LangChain's callbacks added to a span; empty if they added none."""
    text = text_of(attributes, "metadata")
    if text is None or len(text) > _MAX_METADATA_CHARS or not text.startswith("{"):
        return {}
    found = parsed(text)
    return found if isinstance(found, dict) else {}


def _add_model(attributes: Attributes, metadata: Mapping[str, Any], values: Values) -> None:
    """Add the name of the requested model to `values`, unless `values` already names a model.

    The name is read from LangChain's data in the span: the invocation parameters, `metadata`, or the output.
    """
    if text_of(values, v.REQUEST_MODEL, v.RESPONSE_MODEL) is not None:
        return
    parameters = parsed(text_of(attributes, "llm.invocation_parameters") or "")
    if isinstance(parameters, dict):
        add(values, v.REQUEST_MODEL, _text(parameters.get("model")) or _text(parameters.get("model_name")))
    add(values, v.REQUEST_MODEL, _text(metadata.get("ls_model_name")))
    output = text_of(attributes, "output.value")
    if values.get(v.REQUEST_MODEL) is None and output and '"model_name"' in output and len(output) < _MAX_OUTPUT_CHARS:
        found = re.search(r'"model_name":\s*"([^"\\]{1,200})"', output)
        add(values, v.REQUEST_MODEL, found and found[1])


def _is_last_chance(messages: Any) -> bool:
    """Return whether an agent of CrewAI reached its limit of iterations, so that its model must give a final answer.

    `messages` are the messages to the model. At the limit, CrewAI adds this demand to the end of the last message.
    """
    return isinstance(messages, list) and bool(messages) and _LAST_CHANCE in str(messages[-1])[-_MAX_DEMAND_CHARS:]


def _add_raw_end(attributes: Attributes, values: Values) -> None:
    """Add the finish reason of a model's answer to `values`, read from the raw output of the span.

    - If the answer has no content or tool request and the output has a text in a field `refusal`, the model refused.
      The finish reason becomes `refusal`, and this text becomes the answer.
    - Otherwise, if `values` has no finish reason yet, it is read from an output that Python printed (`repr`).
    """
    output = text_of(attributes, "output.value")
    if output is None:
        return
    found = _REFUSAL.search(output) if '"refusal":' in output and not _has_content(values) else None
    if found is not None:
        values[v.FINISH_REASONS] = ["refusal"]
        values[v.OUTPUT_MESSAGES] = [{"role": "assistant", "content": parsed(found["words"])}]
    elif values.get(v.FINISH_REASONS) is None and "(finish_reason='" in output:
        printed = _PRINTED_CHOICE.search(output[:_MAX_OUTPUT_CHARS])
        add(values, v.FINISH_REASONS, [printed[1]] if printed is not None else None)


def _has_content(values: Values) -> bool:
    """Return whether a message in the output has a content or requests a tool."""
    messages = values.get(v.OUTPUT_MESSAGES)
    return isinstance(messages, list) and any(
        not isinstance(message, dict) or message.get("content") or message.get("tool_calls") for message in messages
    )


def _add_agent(span: Span, values: Values) -> None:
    """Add the name of an agent to `values`; remove the agent's output if it is only a notice of the framework."""
    attributes = span.attributes
    if _AGNO_NOTICE.fullmatch(text_of(attributes, "output.value") or ""):
        values.pop(v.OUTPUT, None)
    # The name of the span is the agent's, or the agent's class and method.
    add(values, v.AGENT_NAME, text_of(attributes, "agent.name", "graph.node.name") or _class_name(span.name))


def _class_name(name: str) -> str | None:
    """Return a span's name without the method at its end (`Class` for `Class.run`); None if nothing remains."""
    return re.sub(r"\.(run|arun|invoke|ainvoke|chat|achat|_execute_core|execute_task|stream\w*)$", "", name) or None


def _text(value: Any) -> str | None:
    return value if value and isinstance(value, str) else None


_ROLES: Final = {role.value.upper(): role for role in Role if role not in (Role.OTHER, Role.HANDOFF)}

OPENINFERENCE = Dialect(
    name="OpenInference",
    signs=frozenset(
        (
            _KIND,
            _TRACE_AI_KIND,
            "llm.model_name",
            "llm.token_count.prompt",
            "llm.cost.total",
            "llm.finish_reason",
            "embedding.model_name",
            "tool.name",
            "tool_call.id",
            "tool.id",
            "input.value",
            "output.value",
            "metadata",
            f"{_INPUTS}0.message.role",
            f"{_INPUTS}0.message.content",
            f"{_OUTPUTS}0.message.role",
            f"{_OUTPUTS}0.message.content",
        )
    ),
    names=(
        ("llm.model_name", v.REQUEST_MODEL),
        ("llm.provider", v.PROVIDER),
        ("llm.system", v.PROVIDER),
        ("llm.response.model_name", v.RESPONSE_MODEL),
        ("embedding.model_name", v.REQUEST_MODEL),
        ("llm.token_count.prompt", v.INPUT_TOKENS),
        ("llm.token_count.completion", v.OUTPUT_TOKENS),
        ("llm.token_count.prompt_details.cache_read", v.CACHED_TOKENS),
        ("llm.token_count.prompt_details.cache_write", v.CACHE_WRITE_TOKENS),
        ("llm.token_count.completion_details.reasoning", v.REASONING_TOKENS),
        ("llm.cost.total", v.COST_USD),
        ("llm.finish_reason", v.FINISH_REASONS),
        ("tool.name", v.TOOL_NAME),
        ("tool_call.id", v.TOOL_CALL_ID),
        ("tool.id", v.TOOL_CALL_ID),
        ("tool_call.function.arguments", v.TOOL_ARGUMENTS),
        ("input.value", v.INPUT),
        ("output.value", v.OUTPUT),
    ),
    roles={_KIND: _ROLES, _TRACE_AI_KIND: _ROLES},
    translate=_translate,
)
