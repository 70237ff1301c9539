"""Read the JSON Schema of a tool's arguments from the attributes of spans.

Every model call repeats the definitions of all tools, which are large. Therefore a schema is read only if a call of its
tool failed: the analysis of the failure needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from relab.telemetry.otlp.messages import parsed
from relab.telemetry.otlp.spans import Attributes

MAX_SCHEMA_CHARS: Final = 20_000
MAX_DEFINITIONS_CHARS: Final = 1_000_000
_OF_THE_TOOL: Final = ("tool.parameters", "gen_ai.tool.json_schema", "spring.ai.tool.definition.schema")
"""Attributes of a tool's own span that have its schema."""
_OF_ALL_TOOLS: Final = ("gen_ai.tool.definitions", "ai.prompt.tools")
"""Attributes with a list of tool definitions, or a list of their JSON texts."""
_KEYS: Final = ("parameters", "inputSchema", "input_schema", "parameters_json_schema")
"""Keys of a tool definition that have its schema."""
_NUMBERED: Final = "llm.tools."
_NUMBERED_SCHEMA: Final = ".tool.json_schema"


def own_schema(attributes: Attributes) -> dict[str, Any] | None:
    """Return the JSON Schema of a tool's arguments from the attributes of the tool's span; None if they have none."""
    return next((found for name in _OF_THE_TOOL if (found := _schema(attributes.get(name))) is not None), None)


class GivenSchemas:
    """Finds the JSON Schema of a tool's arguments in the tool definitions that a program gave to models or agents.

    Each definition is read at most once, and only if a schema is needed.

    Args:
        spans: the attributes of the spans of models and agents. If a tool has several definitions, the first one
            with a schema is used.
    """

    def __init__(self, spans: Iterable[Attributes]) -> None:
        self._left = _named_schemas(spans)
        self._found: dict[str, dict[str, Any]] = {}

    def of(self, tool: str) -> dict[str, Any] | None:
        """Return the JSON Schema of the tool's arguments; None if no definition of the tool has one."""
        while tool not in self._found:
            following = next(self._left, None)
            if following is None:
                return None
            name, schema = following
            self._found.setdefault(name, schema)
        return self._found[tool]


def _named_schemas(spans: Iterable[Attributes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(name, schema)` of each tool definition in the attributes of spans; skip those without a schema."""
    for attributes in spans:
        for definition in _definitions(attributes):
            function = definition.get("function")
            fields = function if isinstance(function, dict) else definition
            name, schemas = fields.get("name"), (_schema(fields.get(key)) for key in _KEYS)
            schema = next((schema for schema in schemas if schema is not None), None)
            if isinstance(name, str) and schema is not None:
                yield name, schema


def _definitions(attributes: Attributes) -> Iterator[dict[str, Any]]:
    for name in _OF_ALL_TOOLS:
        listed = _value(attributes.get(name))
        for item in listed if isinstance(listed, list) else ():
            definition = _value(item)
            if isinstance(definition, dict):
                yield definition
    number = 0
    while (text := attributes.get(f"{_NUMBERED}{number}{_NUMBERED_SCHEMA}")) is not None:
        definition = _value(text)
        if isinstance(definition, dict):
            yield definition
        number += 1


def _value(text: Any) -> Any:
    if isinstance(text, str):
        return parsed(text) if len(text) <= MAX_DEFINITIONS_CHARS else None
    return text


def _schema(value: Any) -> dict[str, Any] | None:
    """Return the JSON Schema in `value`, which is a dictionary or JSON text.

    Return None if `value` does not describe the properties of an object, or has more than `MAX_SCHEMA_CHARS`
    characters.
    """
    if isinstance(value, str) and len(value) > MAX_SCHEMA_CHARS:
        return None
    found = _value(value)
    if not isinstance(found, dict) or not isinstance(found.get("properties"), dict):
        return None
    return found if len(str(found)) <= MAX_SCHEMA_CHARS else None
