"""Convert the input, the output and the arguments in a span into the texts that a run shows.

In OpenTelemetry, programs send message texts only if they are configured to. So a text may be None. Long texts are cut;
the stored span has the complete texts.
"""

from __future__ import annotations

from typing import Any

import pydantic_core

from relab.core.errors import MalformedBodyError
from relab.core.json import JsonValue, parse_json
from relab.telemetry.otlp.spans import Attributes

MAX_INPUT_CHARS = 4_000
MAX_OUTPUT_CHARS = 16_000
MAX_ARGUMENT_CHARS = 32_000


def cut(text: str | None, limit: int) -> str | None:
    """Return the first `limit` characters of `text`; None if `text` is None or empty."""
    return text[:limit] if text else None


def as_text(value: Any) -> str | None:
    """Return a value from a span as text: None and strings unchanged, other values as JSON."""
    if value is None or isinstance(value, str):
        return value
    return pydantic_core.to_json(value).decode()


def shown_text(value: Any) -> str | None:
    """Return `value`, the input or output of a span, as text; None for None and for the text `null` (MLflow)."""
    return None if value == "null" else as_text(value)


def arguments_of(value: Any) -> JsonValue:
    """Return the arguments of a call as a JSON value.

    A text that is a JSON object or array is parsed; any other text stays text. A value that has more than
    `MAX_ARGUMENT_CHARS` characters as text is not parsed; the first `MAX_ARGUMENT_CHARS` characters are returned.
    """
    if not isinstance(value, str):
        text = as_text(value)
        return value if text is None or len(text) <= MAX_ARGUMENT_CHARS else text[:MAX_ARGUMENT_CHARS]
    if len(value) > MAX_ARGUMENT_CHARS or not value.lstrip().startswith(("{", "[")):
        # A text that resembles a number must remain text.
        return value[:MAX_ARGUMENT_CHARS]
    try:
        return parse_json(value.encode())
    except MalformedBodyError:
        return value


def numbered(attributes: Attributes, prefix: str) -> dict[int, dict[str, Any]]:
    """Rebuild a list that was flattened into attributes; return `{index: {rest of the attribute's name: value}}`.

    With the prefix `llm.input_messages.`, the attribute `llm.input_messages.0.message.role` gives `{0: {"message.role":
    …}}`.
    """
    found: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith(prefix):
            index, _, rest = key[len(prefix) :].partition(".")
            if index.isascii() and index.isdigit() and len(index) <= 6:
                found.setdefault(int(index), {})[rest] = value
    return found
