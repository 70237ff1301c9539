"""Read the arguments of a tool call, without the objects in which instrumentations wrap them."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from relab.core.json import JsonValue
from relab.telemetry.otlp.printed import read_printed
from relab.telemetry.otlp.spans import clean_text
from relab.telemetry.otlp.text import arguments_of, as_text


def clean_arguments(value: Any) -> JsonValue:
    """Return the arguments of a tool call as a JSON value, without the objects in which instrumentations wrap them.

    If the arguments are not JSON, return their text.
    """
    if isinstance(value, dict | list):
        value = as_text(value)
    found = arguments_of(value)
    return unwrapped_arguments(clean_text(found) if isinstance(found, str) else found)


def given_arguments(value: Any) -> JsonValue:
    """Return the arguments of a tool call from `value`, an attribute of the tool's span.

    If `value` is JSON or a dictionary as Python prints it, the result is a JSON value, without the objects in which
    instrumentations wrap arguments. Otherwise, the result is the text of `value`.

    For arguments in a model's request, use `clean_arguments`: if a model wrote a Python dictionary in place of JSON,
    this is a mistake, and the timeline must show it.
    """
    arguments = clean_arguments(value)
    if not isinstance(arguments, str) or _PRINTED_OBJECT.match(arguments) is None:
        return arguments
    printed = read_printed(arguments)
    # Not all values of Python can be values of JSON.
    found = arguments_of(as_text(printed)) if isinstance(printed, dict) else None
    return unwrapped_arguments(found) if isinstance(found, dict) else arguments


def call_key(tool: str, arguments: JsonValue) -> tuple[str, str]:
    """Return a key that is equal for calls of the same tool with equal arguments, in any order of their fields."""
    return plain_name(tool), json.dumps(arguments, sort_keys=True, default=str)


def plain_name(tool: str) -> str:
    """Return a tool's name in lower case, with one `_` in place of each sequence of spaces, punctuation and `_`."""
    # For comparisons: CrewAI offers the tool "Delegate work" to the model as `delegate_work`.
    return _NOT_WORD.sub("_", tool.casefold())


_NOT_WORD: Final = re.compile(r"[\W_]+")
_PRINTED_OBJECT: Final = re.compile(r"\{'")
_OF_BEEAI: Final = frozenset(("input", "options"))
_WRAPPERS: Final = frozenset(("args", "kwargs", "sanitize_inputs_outputs"))


def unwrapped_arguments(value: JsonValue) -> JsonValue:
    """Return the arguments of a function without the object in which instrumentations wrap them.

    Such an object has no fields except `args`, `kwargs` and `sanitize_inputs_outputs`, or (from BeeAI) `input` and
    `options`, where `input` has the arguments. Any other value is returned unchanged.
    """
    if not isinstance(value, dict) or not value:
        return value
    if value.keys() == _OF_BEEAI and isinstance(value["input"], dict):
        return value["input"]
    if not value.keys() <= _WRAPPERS:
        return value
    args, kwargs = value.get("args"), value.get("kwargs")
    if isinstance(kwargs, dict) and kwargs:
        return {**kwargs, "args": args} if args else kwargs
    if isinstance(args, list) and args:
        return args[0] if len(args) == 1 and isinstance(args[0], dict) else args
    return {} if isinstance(kwargs, dict) or isinstance(args, list) else value
