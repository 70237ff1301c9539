"""Convert the errors of a Pydantic model to the problems of an `InvalidInputError`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MAX_PROBLEMS: Final = 20
_MAX_FIELD_CHARS: Final = 500
_MAX_SHOWN_CHARS: Final = 82
"""The length of a text of 80 characters with its two quotes."""
VALUE_ERROR_PREFIX: Final = "Value error, "
"""Pydantic begins the message of an error that a validator raised with these words."""
_CLASS_NAME: Final = re.compile(r" or instance of \w+")
_TYPE_NAMES: Final = frozenset(
    {"bool", "int", "float", "str", "constrained-str", "constrained-int", "constrained-float"}
)


class FieldValueError(ValueError):
    """One field of a model is wrong; only a validator of the whole Pydantic model raises this error.

    `field` is the path of keys from the model to this field.
    """

    def __init__(self, field: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.field = field


def plain_message(message: str) -> str:
    """Return an error message of Pydantic without the prefix `Value error, ` and without names of Python classes."""
    return _CLASS_NAME.sub("", message.removeprefix(VALUE_ERROR_PREFIX)).replace("Tuple should", "List should")


def message_with_value(problem: ErrorDetails) -> str:
    """Return the message of a Pydantic problem, with the wrong value at its end: `message, not value`.

    The value is left out if the field is missing or unknown, if one of relab's validators wrote the message, or if the
    value is a list, an object or longer than 80 characters.
    """
    message, given = plain_message(problem["msg"]), problem["input"]
    if problem["type"] in {"missing", "extra_forbidden", "value_error"} or isinstance(given, (dict, list)):
        return message
    # As JSON, so that a number is not shown in quotes like a text.
    shown = repr(given) if isinstance(given, str) else json.dumps(given)
    return f"{message}, not {shown}" if len(shown) <= _MAX_SHOWN_CHARS else message


def problems_in(error: ValidationError, value: object, *, root: str) -> tuple[tuple[str, str], ...]:
    """Return the first 20 problems that Pydantic reports, as one `(dotted field, message)` pair for each field.

    Several messages about the same field are joined.

    Args:
        error: the validation error of Pydantic; it has at least one problem.
        value: the value that was validated.
        root: the name of the whole value, for problems that belong to no single field.
    """
    found: dict[str, list[str]] = {}
    # For a field of several possible types, Pydantic reports a problem for each type.
    for item in error.errors(include_url=False, include_input=False)[:_MAX_PROBLEMS]:
        location = item["loc"] if item["type"] == "missing" else _without_type_name(item["loc"], value)
        field = ".".join(map(str, location))[:_MAX_FIELD_CHARS] or root
        found.setdefault(field, []).append(plain_message(item["msg"]))
    return tuple((field, _joined(messages)) for field, messages in found.items())


def _joined(messages: list[str]) -> str:
    first, *others = dict.fromkeys(messages)
    return ", or ".join([first, *(message.removeprefix("Input should be ") for message in others)])


def _without_type_name(location: tuple[str | int, ...], value: object) -> tuple[str | int, ...]:
    """Return the location of a problem, without the type's name that Pydantic may have added at its end.

    The last part is kept if `value` really has a field with this name.
    """
    # For a field of several possible types, Pydantic adds the type's name to the location.
    if not location or location[-1] not in _TYPE_NAMES:
        return location
    owner: Any = value
    for part in location[:-1]:
        try:
            owner = owner[part]
        except (KeyError, IndexError, TypeError):
            return location
    is_field = isinstance(owner, dict) and location[-1] in owner
    return location if is_field else location[:-1]


def problems_of(error: ValidationError, *, root: str) -> tuple[tuple[str, str], ...]:
    """Return the first 20 problems as `(dotted field, message)` pairs, for `InvalidInputError.problems`.

    A field may have several pairs, because Pydantic can report several problems about it.

    Args:
        error: the validation error of Pydantic; it has at least one problem.
        root: the name of the whole value, for problems that belong to no single field.
    """
    found = error.errors(include_url=False, include_input=False)[:_MAX_PROBLEMS]
    return tuple((".".join(map(str, item["loc"])) or root, plain_message(item["msg"])) for item in found)
