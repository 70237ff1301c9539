"""The dialect of MLflow's tracing: each attribute is a JSON text."""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, add_messages, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_KIND: Final = "mlflow.spanType"
_ROLES: Final = {
    "LLM": Role.LLM,
    "CHAT_MODEL": Role.LLM,
    "CHAIN": Role.CHAIN,
    "WORKFLOW": Role.CHAIN,
    "TASK": Role.CHAIN,
    "PARSER": Role.CHAIN,
    "MEMORY": Role.CHAIN,
    "AGENT": Role.AGENT,
    "TOOL": Role.TOOL,
    "RETRIEVER": Role.RETRIEVER,
    "EMBEDDING": Role.EMBEDDING,
    "RERANKER": Role.RERANKER,
    "GUARDRAIL": Role.GUARDRAIL,
    "EVALUATOR": Role.EVALUATOR,
}


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    kind = _value(attributes.get(_KIND))
    if isinstance(kind, str) and kind in _ROLES:
        values.setdefault(v.ROLE, _ROLES[kind])
    role = values.get(v.ROLE)
    given, result = attributes.get("mlflow.spanInputs"), attributes.get("mlflow.spanOutputs")
    if role is Role.TOOL:
        name = _value(attributes.get("mlflow.spanFunctionName"))
        add(values, v.TOOL_NAME, name if isinstance(name, str) and name else span.name)
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, _value(result))
    elif role is Role.LLM:
        add_messages(values, given, result)
        usage = _value(attributes.get("mlflow.chat.tokenUsage"))
        if isinstance(usage, dict):
            add(values, v.INPUT_TOKENS, usage.get("input_tokens"))
            add(values, v.OUTPUT_TOKENS, usage.get("output_tokens"))
            add(values, v.CACHED_TOKENS, usage.get("cache_read_input_tokens"))
            add(values, v.CACHE_WRITE_TOKENS, usage.get("cache_creation_input_tokens"))
        add(values, v.REQUEST_MODEL, _model(given))
        add(values, v.REQUEST_MODEL, _value(attributes.get("mlflow.llm.model")))
    else:
        add(values, v.INPUT, given)
        add(values, v.OUTPUT, _value(result) if isinstance(_value(result), str) else result)
    if role is Role.AGENT:
        add(values, v.AGENT_NAME, span.name or None)
    add(values, v.CONVERSATION_ID, _value(text_of(attributes, "mlflow.trace.session")))
    add(values, v.USER_ID, _value(text_of(attributes, "mlflow.trace.user")))


def _value(text: Any) -> Any:
    """Return the value of a JSON text; return a text that is not JSON unchanged."""
    if not isinstance(text, str):
        return text
    found = parsed(text)
    return found if found is not None else text


def _model(given: Any) -> str | None:
    found = _value(given)
    model = found.get("model") if isinstance(found, dict) else None
    return model if model and isinstance(model, str) else None


MLFLOW = Dialect(name="MLflow", signs=frozenset((_KIND, "mlflow.spanInputs")), translate=_translate)
