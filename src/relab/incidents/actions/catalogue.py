"""Parse an action server's catalogue: the actions (repairs) that it can execute, with their parameters.

The catalogue is untrusted. Invalid entries are left out and counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from relab.core.json import is_number

ParameterValue = bool | int | float | str
"""The type of a parameter's value."""

READ: Final = "read"
"""The class of actions that change nothing."""
WHOLE_SERVICE_TARGET: Final = "service"
"""The target of an action whose entry and parameters name no part of the service."""
MAX_TEXT: Final = 200
MAX_ACTIONS: Final = 500
_MAX_PARAMETERS: Final = 50
_MAX_CHOICES: Final = 100
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,99}")
_TARGET_PARAMETERS: Final = ("dependency", "component")
_WHOLE_NUMBER: Final = re.compile(r"-?\d{1,15}")
_NUMBER: Final = re.compile(r"-?\d{1,15}(\.\d{1,15})?")


class UserImpact(StrEnum):
    """The impact of an action or an incident: on nothing, some requests, one dependency, or the whole service.

    The members are ordered, the smallest impact first.
    """

    NONE = "none"
    SOME_REQUESTS = "some_requests"
    ONE_DEPENDENCY = "one_dependency"
    WHOLE_SERVICE = "whole_service"

    def exceeds(self, other: UserImpact) -> bool:
        """Return whether this impact is larger than `other`, in the order of the members."""
        order = list(UserImpact)
        return order.index(self) > order.index(other)


@dataclass(frozen=True, slots=True)
class ParameterRule:
    """The rule for the values of one parameter of an action; the action server may check more.

    Attributes:
        kinds: the allowed JSON types; empty if the catalogue does not list any.
        choices: the only allowed values; empty if every value is allowed.
        least, most: the bounds of a number, inclusive; None without a bound.
    """

    name: str
    kinds: frozenset[str] = frozenset()
    required: bool = False
    choices: tuple[ParameterValue, ...] = ()
    least: float | None = None
    most: float | None = None

    def fit(self, value: ParameterValue) -> ParameterValue | None:
        """Return a value converted to the parameter's type; None if the parameter does not allow it.

        A value of an allowed type is not converted. If the rule allows numbers but no texts, a text is parsed as a
        number. If it allows integers only, 2.0 becomes 2.
        """
        fitted = self._of_kind(value)
        if fitted is None or (self.choices and not any(_is_same(fitted, choice) for choice in self.choices)):
            return None
        if is_number(fitted):
            if not math.isfinite(fitted):
                return None
            if (self.least is not None and fitted < self.least) or (self.most is not None and fitted > self.most):
                return None
        return fitted

    def _of_kind(self, value: ParameterValue) -> ParameterValue | None:
        if isinstance(value, bool):
            return value if not self.kinds or "boolean" in self.kinds else None
        if isinstance(value, str):
            return self._of_text(value)
        if not self.kinds or "number" in self.kinds:
            return value
        if "integer" in self.kinds and math.isfinite(value) and float(value).is_integer():
            return int(value)
        return None

    def _of_text(self, value: str) -> ParameterValue | None:
        if len(value) > MAX_TEXT or not value.isprintable():
            return None
        if not self.kinds or "string" in self.kinds:
            return value
        if "integer" in self.kinds and _WHOLE_NUMBER.fullmatch(value):
            return int(value)
        return float(value) if "number" in self.kinds and _NUMBER.fullmatch(value) else None


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """One action that the server offers: an entry of its catalogue.

    Attributes:
        title: the name for people.
        action_class: the kind of change; actions of the class `read` change nothing.
        blast_radius: the impact of the action: on nothing, some requests, one dependency, or the whole service.
        parameters: the rules for the parameters' values, by name.
        effect: the expected effect, in words.
        preconditions: the conditions for executing the action, in words.
        inverse: the name of the action that rolls this action back; None if no action does.
        target: the part of the service that the action changes; None if the entry does not name it (see `target_of`).
    """

    name: str
    title: str
    action_class: str
    blast_radius: UserImpact
    effect: str = ""
    parameters: Mapping[str, ParameterRule] = field(default_factory=dict)
    preconditions: tuple[str, ...] = ()
    inverse: str | None = None
    target: str | None = None

    @property
    def is_read_only(self) -> bool:
        """Whether the action changes nothing: its class is `read`, and its blast radius is `none`."""
        return self.action_class == READ and self.blast_radius is UserImpact.NONE

    def target_of(self, parameters: Mapping[str, ParameterValue]) -> str:
        """Return the part of the service that the action changes if it is executed with `parameters`.

        Return `service` if neither this catalogue entry nor the parameters name a part.
        """
        named = next((parameters[name] for name in _TARGET_PARAMETERS if name in parameters), None)
        return self.target or (str(named) if named is not None else WHOLE_SERVICE_TARGET)

    def fit(self, given: Mapping[str, ParameterValue]) -> tuple[dict[str, ParameterValue], list[str]]:
        """Return `(valid parameters, problems)`: values converted to the action's types, and one sentence per problem.

        Problems are unknown names, missing required parameters and forbidden values.

        Args:
            given: `{parameter: value}`.
        """
        fitted: dict[str, ParameterValue] = {}
        problems = [f"{name} is not a parameter of {self.name}" for name in given if name not in self.parameters]
        for name, rule in self.parameters.items():
            if name not in given:
                if rule.required:
                    problems.append(f"{name} is missing")
                continue
            value = rule.fit(given[name])
            if value is None:
                problems.append(f"{name} cannot be {given[name]!r:.60}")
            else:
                fitted[name] = value
        return fitted, problems


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The actions that a server offers.

    Attributes:
        actions: the actions by name.
        unreadable: the number of entries that were left out: invalid ones, duplicates, and all after the first 500. If
            the whole catalogue is invalid, the number is 1.
    """

    actions: Mapping[str, ActionEntry] = field(default_factory=dict)
    unreadable: int = 0


def read_catalogue(document: Any) -> Catalogue:
    """Parse the JSON of an action server's catalogue: the list of the actions (repairs) that the server can execute.

    A document that is not valid gives an empty catalogue.
    """
    rows = document.get("actions") if isinstance(document, Mapping) else None
    if not isinstance(rows, list):
        return Catalogue(unreadable=1)
    found = [_entry(row) for row in rows[:MAX_ACTIONS]]
    actions: dict[str, ActionEntry] = {}
    for entry in found:
        if entry is not None:
            actions.setdefault(entry.name, entry)
    return Catalogue(actions, len(rows) - len(actions))


def _entry(row: Any) -> ActionEntry | None:
    if not isinstance(row, Mapping):
        return None
    name, action_class, radius = row.get("name"), row.get("class"), row.get("blast_radius")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    if not isinstance(action_class, str) or not _NAME.fullmatch(action_class) or radius not in list(UserImpact):
        # Without class and blast radius the policy cannot rule on the action.
        return None
    parameters = _rules(row.get("parameters"))
    if parameters is None:
        return None
    inverse, target = row.get("inverse"), row.get("target")
    return ActionEntry(
        name=name,
        title=_text(row.get("title")),
        action_class=action_class,
        blast_radius=UserImpact(radius),
        effect=_text(row.get("effect")),
        parameters=parameters,
        preconditions=tuple(_text(item) for item in _list(row.get("preconditions"))[:20]),
        inverse=inverse if isinstance(inverse, str) and _NAME.fullmatch(inverse) else None,
        target=target if isinstance(target, str) and _NAME.fullmatch(target) else None,
    )


def _rules(schema: Any) -> dict[str, ParameterRule] | None:
    """Return `{parameter: rule}` for the properties of an object's JSON schema.

    The rules ignore the parts of JSON Schema that `ParameterRule` cannot express. Return None if the schema or its
    `properties` is not an object, or if there are more than `_MAX_PARAMETERS` properties.
    """
    if not isinstance(schema, Mapping):
        return None
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping) or len(properties) > _MAX_PARAMETERS:
        return None
    required = {item for item in _list(schema.get("required")) if isinstance(item, str)}
    return {
        name: _rule(name, part, required=name in required)
        for name, part in properties.items()
        if isinstance(name, str) and isinstance(part, Mapping)
    }


def _rule(name: str, part: Mapping[str, Any], *, required: bool) -> ParameterRule:
    options = [item for item in (part, *_list(part.get("anyOf"))[:10]) if isinstance(item, Mapping)]
    if any("$ref" in item for item in options):
        return ParameterRule(name, required=required)
    kinds = {kind for item in options for kind in (item.get("type"), *_list(item.get("type"))) if isinstance(kind, str)}
    choices = [choice for item in options for choice in _choices(item)]
    numbers = [item for item in options if set(_kinds_of(item)) & {"integer", "number"}]
    return ParameterRule(
        name=name,
        kinds=frozenset(kinds - {"null"}),
        required=required,
        choices=tuple(choices[:_MAX_CHOICES]),
        least=min(_bounds(numbers, "minimum"), default=None) if len(numbers) == 1 else None,
        most=max(_bounds(numbers, "maximum"), default=None) if len(numbers) == 1 else None,
    )


def _kinds_of(item: Mapping[str, Any]) -> Iterable[str]:
    kind = item.get("type")
    return [kind] if isinstance(kind, str) else []


def _choices(item: Mapping[str, Any]) -> list[ParameterValue]:
    found = [*_list(item.get("enum")), *([item["const"]] if "const" in item else [])]
    return [choice for choice in found if isinstance(choice, bool | int | float | str)]


def _bounds(items: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    found = (item.get(key) for item in items)
    return [value for value in found if is_number(value)]


def _is_same(one: ParameterValue, other: ParameterValue) -> bool:
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
