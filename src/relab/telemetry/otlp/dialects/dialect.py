"""Define what a dialect is (`Dialect`), and functions with which dialects translate attributes.

A dialect translates the attribute names of one family of instrumentations to the names of `vocabulary.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.messages import read_messages
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

Values = dict[str, Any]
"""Attributes of a span during their translation; names of `vocabulary.py` are added to them."""


def _leave(_span: Span, _values: Values) -> None:
    """Change nothing. A dialect that only renames attributes uses this function as its `translate`."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the attributes of one family of instrumentations are translated to the names of `vocabulary.py`.

    Attributes:
        name: the name of the dialect in the documentation.
        signs: attribute names; a span with at least one of them is translated by this dialect.
        names: pairs `(attribute of the dialect, name in the vocabulary)`. The name gets the value of the attribute,
            unless the name already has a value; so the first of several pairs with the same name has precedence.
        roles: `{attribute: {value: role}}`: the role of a span (such as model call or tool call) by the value of an
            attribute.
        translate: a function that adds further values. Its arguments are the span and the values found so far.
    """

    name: str
    signs: frozenset[str]
    names: tuple[tuple[str, str], ...] = ()
    roles: Mapping[str, Mapping[str, Role]] = field(default_factory=dict)
    translate: Callable[[Span, Values], None] = _leave


def add(values: Values, name: str, value: Any) -> None:
    """Set `values[name]` to `value`, unless `value` is None or `name` already has a value.

    `name` is one of the attribute names in `vocabulary.py`.
    """
    if value is not None and values.get(name) is None:
        values[name] = value


def add_messages(values: Values, given: Any, result: Any) -> None:
    """Add the input (`given`) and the output (`result`) of a model call to `values`.

    Each is added as messages if it has the form of messages, otherwise as a plain value.
    """
    add(values, v.INPUT_MESSAGES if read_messages(given) else v.INPUT, given)
    add(values, v.OUTPUT_MESSAGES if read_messages(result) else v.OUTPUT, result)


def first_of(attributes: Attributes, names: Iterable[str]) -> Any:
    """Return the value of the first attribute in `names` that has one; None if there is none."""
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def text_of(attributes: Attributes, *keys: str) -> str | None:
    """Return the value of the first attribute in `keys` that is a non-empty text; None if there is none."""
    for key in keys:
        value = attributes.get(key)
        if value and isinstance(value, str):
            return value
    return None
