"""Read the arguments of a tool call, without the wrappers of instrumentations."""

from __future__ import annotations

from typing import Any, Final

from relab.core.json import JsonValue
from relab.telemetry.otlp.spans import clean_text
from relab.telemetry.otlp.text import arguments_of, as_text


def clean_arguments(value: Any) -> JsonValue:
    """Return the arguments of a call as a JSON value without wrappers of instrumentations; text if they are not JSON."""
    if isinstance(value, dict | list):
        value = as_text(value)
    found = arguments_of(value)
    return unwrapped_arguments(clean_text(found) if isinstance(found, str) else found)


_WRAPPERS: Final = frozenset(("args", "kwargs", "sanitize_inputs_outputs"))


def unwrapped_arguments(value: JsonValue) -> JsonValue:
    """Return the arguments of a function without the `args` and `kwargs` in which instrumentations wrap them."""
    if not isinstance(value, dict) or not value or not value.keys() <= _WRAPPERS:
        return value
    args, kwargs = value.get("args"), value.get("kwargs")
    if isinstance(kwargs, dict) and kwargs:
        return {**kwargs, "args": args} if args else kwargs
    if isinstance(args, list) and args:
        return args[0] if len(args) == 1 and isinstance(args[0], dict) else args
    return {} if isinstance(kwargs, dict) or isinstance(args, list) else value
