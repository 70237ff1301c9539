"""The dialect of Braintrust: attributes `braintrust.*`, which a span may have beside those of other conventions.

The input and the output are text (`braintrust.input`) or JSON (`braintrust.input_json`). Any other object, such as the
metrics, is one attribute with JSON (`braintrust.metrics`), or one attribute for each field
(`braintrust.metrics.prompt_tokens`).
"""

from __future__ import annotations

from typing import Any, Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, add_messages, first_of, text_of
from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

_PREFIX: Final = "braintrust."
_INPUTS: Final = (f"{_PREFIX}input_json", f"{_PREFIX}input")
_OUTPUTS: Final = (f"{_PREFIX}output_json", f"{_PREFIX}output")
_OBJECTS: Final = (f"{_PREFIX}span_attributes", f"{_PREFIX}metadata", f"{_PREFIX}metrics")
_ROLES: Final = {
    "llm": Role.LLM,
    "tool": Role.TOOL,
    "function": Role.CHAIN,
    "task": Role.CHAIN,
    "score": Role.EVALUATOR,
    "classifier": Role.EVALUATOR,
}
_COUNTS: Final = (
    ("prompt_tokens", v.INPUT_TOKENS),
    ("completion_tokens", v.OUTPUT_TOKENS),
    ("prompt_cached_tokens", v.CACHED_TOKENS),
    ("prompt_cache_creation_tokens", v.CACHE_WRITE_TOKENS),
    ("completion_reasoning_tokens", v.REASONING_TOKENS),
    ("estimated_cost", v.COST_USD),
)


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    kind = _field(attributes, "span_attributes", "type")
    if v.ROLE not in values and isinstance(kind, str) and kind in _ROLES:
        values[v.ROLE] = _ROLES[kind]
    given, result = first_of(attributes, _INPUTS), first_of(attributes, _OUTPUTS)
    role = values.get(v.ROLE)
    if role is Role.TOOL:
        add(values, v.TOOL_NAME, span.name or None)
        add(values, v.TOOL_ARGUMENTS, given)
        add(values, v.TOOL_RESULT, result)
    elif role is Role.LLM:
        add_messages(values, given, result)
        add(values, v.REQUEST_MODEL, _field(attributes, "metadata", "model"))
    else:
        add(values, v.INPUT, given)
        add(values, v.OUTPUT, result)
        if role is Role.CHAIN:
            add(values, v.WORKFLOW_NAME, span.name or None)
    add(values, v.CONVERSATION_ID, _field(attributes, "metadata", "session_id"))
    add(values, v.USER_ID, _field(attributes, "metadata", "user_id"))
    for name, target in _COUNTS:
        add(values, target, _field(attributes, "metrics", name))


def _field(attributes: Attributes, owner: str, name: str) -> Any:
    """Return the field `name` of the object `owner`, such as `metadata`; None if the field is missing.

    The field has an attribute of its own (`braintrust.metadata.NAME`), or is in the JSON of the object
    (`braintrust.metadata`).
    """
    own = attributes.get(f"{_PREFIX}{owner}.{name}")
    if own is not None:
        return own
    found = parsed(text_of(attributes, f"{_PREFIX}{owner}") or "")
    return found.get(name) if isinstance(found, dict) else None


BRAINTRUST = Dialect(
    name="Braintrust",
    signs=frozenset((*_INPUTS, *_OUTPUTS, *_OBJECTS, f"{_PREFIX}span_attributes.type")),
    translate=_translate,
)
