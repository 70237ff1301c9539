"""A dialect: the attribute names of one family of instrumentations, and their translation to the names of `vocabulary.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Attributes, Span

Values = dict[str, Any]
"""Attributes of a span during their translation; names of `vocabulary.py` are added to them."""


def _leave(_span: Span, _values: Values) -> None:
    """The names alone translate this dialect."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The attribute names of one family of instrumentations, and their translation to the names of `vocabulary.py`.

    Attributes:
        name: the dialect's name in documents.
        signs: attributes of which a span in this dialect has at least one.
        names: pairs of an attribute of the dialect and its name in the vocabulary. Of several attributes for one name the
            first that the span has counts; a name of the vocabulary that the span already has is never replaced.
        roles: `{attribute: {value: role}}`.
        translate: adds what a table of names cannot express, given the span and its values so far.
    """

    name: str
    signs: frozenset[str]
    names: tuple[tuple[str, str], ...] = ()
    roles: Mapping[str, Mapping[str, Role]] = field(default_factory=dict)
    translate: Callable[[Span, Values], None] = _leave


def add(values: Values, name: str, value: Any) -> None:
    """Add a value under a name of the vocabulary, unless it is None or the name has one already."""
    if value is not None and values.get(name) is None:
        values[name] = value


def text_of(attributes: Attributes, *keys: str) -> str | None:
    """Return the first of the attributes that is a text with content, or None."""
    for key in keys:
        value = attributes.get(key)
        if value and isinstance(value, str):
            return value
    return None
