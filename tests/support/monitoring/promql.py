"""The names of metrics and labels in a query; Prometheus itself checks the syntax."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w.:])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_OPERATORS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without"})


@dataclass(frozen=True)
class Names:
    """The names in a query.

    Attributes:
        selectors: each metric with the labels by which it is selected.
        grouping: the labels in `by`, `without`, `on` and the like.
    """

    selectors: tuple[tuple[str, frozenset[str]], ...]
    grouping: frozenset[str]


def names_in(query: str) -> Names:
    """Return the names of metrics and labels in a query."""
    text = _RANGE.sub("", _STRING.sub('""', query))
    grouping = {label.strip() for found in _GROUPING.findall(text) for label in found.split(",") if label.strip()}
    selectors = tuple(
        (name, frozenset(_LABEL.findall(rest)))
        for name, rest in _NAME.findall(_GROUPING.sub(" ", text))
        if rest != "(" and name not in _OPERATORS
    )
    return Names(selectors, frozenset(grouping))
