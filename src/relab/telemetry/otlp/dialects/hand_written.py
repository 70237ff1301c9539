"""The dialect of hand-written instrumentation that follows no convention.

Two habits are recognised:

- The name of a span says what kind of span it is (`tool: order_lookup`, `agent: order_desk`, `llm call`), and the span
  has attributes such as `input` and `output`.
- Nested values are flattened into attributes with dots in their names (`request.messages.0.content`,
  `tool.parameters.order_id`).
"""

from __future__ import annotations

import re
from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, add_messages, first_of
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

_TEXT_INPUTS: Final = ("input", "prompt", "messages", "question", "query")
_INPUTS: Final = ("input", "arguments", "args", "params", "parameters", "prompt", "messages", "question", "query")
_OUTPUTS: Final = ("output", "result", "completion", "response", "answer")
_CALLED: Final = re.compile(
    r"(?:(?P<tool>tool|function)(?:[ _.]?call)?\s*[:/]\s*|(?P<call>(?:call|execute)_tool|tool_call)\s+"
    r"|(?P<agent>agent)\s*[:/]\s*)(?P<name>[^\s:/][^:/]{0,199})",
    re.IGNORECASE,
)
_MODEL_OPERATIONS: Final = ("chat", "text_completion", "generate_content")
_TEXTS: Final = frozenset((v.INPUT_MESSAGES, v.OUTPUT_MESSAGES, v.INPUT, v.OUTPUT, v.TOOL_ARGUMENTS, v.TOOL_RESULT))
_MODEL: Final = re.compile(r"(?:llm|model)(?:[ _.:/-].{0,200})?", re.IGNORECASE)

_AGENT_INPUTS: Final = ("agent.input", "agent.request", "agent.question")
_AGENT_OUTPUTS: Final = ("agent.output", "agent.response", "agent.answer")
_FLAT_ARGUMENTS: Final = ("tool.parameters.", "tool.arguments.", "tool.args.", "tool.params.", "tool.input.")
_REQUESTS: Final = ("", "request.", "llm.", "llm.request.", "input.")
_ANSWERS: Final = (
    "response.message",
    "response.choices.0.message",
    "llm.response.message",
    "output.message",
    "choices.0.message",
)
_USAGES: Final = ("response.usage.", "llm.response.usage.", "usage.", "llm.usage.")
_MAX_DEPTH: Final = 8
_MAX_ITEMS: Final = 2_000


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if v.OPERATION in values:
        _add_texts_of_operation(attributes, values)
        return
    if v.ROLE in values or v.REQUEST_MODEL in values:
        return
    if v.TOOL_NAME in values:
        _add_tool(attributes, values)
        return
    if any(f"{prefix}messages.0.role" in attributes for prefix in _REQUESTS):
        _add_model_call(attributes, values)
    elif attributes.get("agent.name") and any(name in attributes for name in (*_AGENT_INPUTS, *_AGENT_OUTPUTS)):
        values[v.ROLE] = Role.AGENT
        add(values, v.AGENT_NAME, attributes.get("agent.name"))
        add(values, v.INPUT, first_of(attributes, _AGENT_INPUTS))
        add(values, v.OUTPUT, first_of(attributes, _AGENT_OUTPUTS))
    elif any(name in attributes for name in (*_INPUTS, *_OUTPUTS)):
        _add_by_name(span, values)


def _add_by_name(span: Span, values: Values) -> None:
    """If the name of a span says that it is an agent, a tool or a model, add its role, input and output to `values`."""
    attributes = span.attributes
    called = _CALLED.fullmatch(span.name)
    given, result = first_of(attributes, _INPUTS), first_of(attributes, _OUTPUTS)
    if called is not None and called["agent"]:
        values[v.ROLE] = Role.AGENT
        add(values, v.AGENT_NAME, called["name"].strip())
        add(values, v.INPUT, given)
        add(values, v.OUTPUT, result)
    elif called is not None:
        values[v.ROLE] = Role.TOOL
        add(values, v.TOOL_NAME, called["name"].strip())
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, result)
    elif _MODEL.fullmatch(span.name) is not None:
        values[v.ROLE] = Role.LLM
        add_messages(values, given, result)
        add(values, v.REQUEST_MODEL, attributes.get("model"))
        _add_usage(attributes, "", values)


def _add_texts_of_operation(attributes: Attributes, values: Values) -> None:
    """Add the input and output of a span with OpenTelemetry's operation name from attributes such as `input`, `result`.

    Do nothing if `values` already has an input or output, messages, or arguments or a result of a tool.
    """
    if not _TEXTS.isdisjoint(name for name, value in values.items() if value is not None):
        return
    operation = values[v.OPERATION]
    if operation in _MODEL_OPERATIONS:
        add_messages(values, first_of(attributes, _TEXT_INPUTS), first_of(attributes, _OUTPUTS))
    elif operation == "invoke_agent":
        add(values, v.INPUT, first_of(attributes, _TEXT_INPUTS))
        add(values, v.OUTPUT, first_of(attributes, _OUTPUTS))
    elif operation == "execute_tool":
        add(values, v.TOOL_ARGUMENTS, first_of(attributes, _INPUTS))
        add(values, v.TOOL_RESULT, first_of(attributes, _OUTPUTS))


def _add_tool(attributes: Attributes, values: Values) -> None:
    if values.get(v.TOOL_ARGUMENTS) is None and values.get(v.INPUT) is None:
        add(values, v.TOOL_ARGUMENTS, next(filter(None, (_nested(attributes, name) for name in _FLAT_ARGUMENTS)), None))
    add(values, v.TOOL_RESULT, attributes.get("tool.response"))


def _add_model_call(attributes: Attributes, values: Values) -> None:
    values[v.ROLE] = Role.LLM
    for prefix in _REQUESTS:
        messages = _nested(attributes, f"{prefix}messages.")
        if messages is not None:
            add(values, v.INPUT_MESSAGES, _as_list(messages))
            add(values, v.REQUEST_MODEL, attributes.get(f"{prefix}model"))
    for prefix in _ANSWERS:
        message = _nested(attributes, f"{prefix}.")
        if message is not None:
            add(values, v.OUTPUT_MESSAGES, [message])
    add(values, v.RESPONSE_MODEL, attributes.get("response.model"))
    for prefix in _USAGES:
        _add_usage(attributes, prefix, values)


def _add_usage(attributes: Attributes, prefix: str, values: Values) -> None:
    add(values, v.INPUT_TOKENS, first_of(attributes, (f"{prefix}prompt_tokens", f"{prefix}input_tokens")))
    add(values, v.OUTPUT_TOKENS, first_of(attributes, (f"{prefix}completion_tokens", f"{prefix}output_tokens")))


def _nested(attributes: Attributes, prefix: str) -> Any:
    """Rebuild an object or list from the attributes whose names begin with `prefix`, and return it.

    Return None if no attribute has this prefix.
    """
    root: dict[str, Any] = {}
    found = 0
    for name, value in attributes.items():
        if not name.startswith(prefix):
            continue
        found += 1
        if found > _MAX_ITEMS:
            break
        keys = name[len(prefix) :].split(".", _MAX_DEPTH)
        place = root
        for key in keys[:-1]:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                break
            place = inner
        else:
            place.setdefault(keys[-1], value)
    return _listed(root) if found else None


def _listed(value: Any) -> Any:
    """Return a value in which each object with only numbers as keys, or none, is replaced by a list.

    Objects in objects are replaced too, but not objects in lists.
    """
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each) for key, each in value.items()}
    return _as_list(inner) if all(key.isdecimal() for key in inner) else inner


def _as_list(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return [each for _, each in sorted(value.items(), key=lambda item: (len(item[0]), item[0]))]


HAND_WRITTEN = Dialect(
    name="hand-written",
    signs=frozenset(
        (
            *_INPUTS,
            *_OUTPUTS,
            *_AGENT_INPUTS,
            *_AGENT_OUTPUTS,
            "tool.name",
            "tool.response",
            *(f"{prefix}messages.0.role" for prefix in _REQUESTS),
        )
    ),
    translate=_translate,
)
