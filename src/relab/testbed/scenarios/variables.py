"""Determine the values of a scenario's variables, and replace `${name}` in the scenario with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any, Final

from pydantic import ValidationError

from relab.core.validation import plain_message
from relab.testbed.scenarios.errors import ScenarioError
from relab.testbed.scenarios.models import MAX_PAUSE_S, VARIABLE, Activity, Experiment, FromEnvironment

_FALSE: Final = frozenset(("false", "0", "no"))
_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "str": str,
    "string": str,
    "int": int,
    "integer": int,
    "float": float,
    "number": float,
    "bool": lambda text: text.lower() not in _FALSE,
    "json": json.loads,
}


@dataclass(frozen=True, slots=True)
class Variables:
    """The values of a scenario's variables in one run, by name. They include secrets: never print this object."""

    values: Mapping[str, Any]

    def fill(self, value: Any) -> Any:
        """Return a copy of a JSON value in which the variables' values replace every `${name}` in texts.

        If a text is only `${name}`, the variable's value replaces the whole text and keeps its type, such as a number.
        In other texts, `$name` is replaced, too, and `$$` becomes `$`. Unknown names are left unchanged.
        """
        if isinstance(value, str):
            alone = VARIABLE.fullmatch(value)
            if alone is not None:
                return self.values.get(alone.group(1), value)
            return Template(value).safe_substitute(self.values)
        if isinstance(value, Mapping):
            return {key: self.fill(inner) for key, inner in value.items()}
        return [self.fill(inner) for inner in value] if isinstance(value, list | tuple) else value

    def seconds(self, value: float | str, field: str) -> float:
        """Return a duration of a scenario in seconds.

        Args:
            value: the number, or the text `${name}` with the name of a variable.
            field: the name of the value's field, for error messages.

        Raises:
            ScenarioError: the value is not a number, is negative, or exceeds the limit for pauses (`MAX_PAUSE_S`).
        """
        filled = self.fill(value)
        try:
            found = float(filled)
        except (TypeError, ValueError):
            found = -1.0
        if not 0 <= found <= MAX_PAUSE_S:
            raise ScenarioError(
                f"{field}: {value} is {str(filled)[:60]!r}, and must be 0 to {MAX_PAUSE_S:.0f} seconds."
            )
        return found


def read_overrides(lines: Sequence[str]) -> dict[str, Any]:
    """Parse the values of `--var`, each `name[:type]=value` as in chaostoolkit; return the converted values by name.

    The type is `str`, `int`, `float`, `bool`, `json` or a longer name of one of them; by default it is `str`.

    Raises:
        ScenarioError: a line does not have this form, or a value does not have the type.
    """
    found: dict[str, Any] = {}
    for line in lines:
        name, equals, text = line.partition("=")
        name, _, kind = name.partition(":")
        remedy = f"Write NAME[:TYPE]=VALUE, TYPE one of {', '.join(_READERS)}."
        if not equals or not name or (kind or "str") not in _READERS:
            # The text after = may be a secret, so it is not repeated.
            raise ScenarioError(f"--var {line.partition('=')[0][:60]!r} cannot be read.", remedy=remedy)
        try:
            found[name] = _READERS[kind or "str"](text)
        except ValueError as error:
            raise ScenarioError(f"--var {name[:60]!r}: the value is not of type {kind}.", remedy=remedy) from error
    return found


def load_variables(
    experiment: Experiment, environment: Mapping[str, str], given: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Variables:
    """Return the values of a scenario's variables for one run.

    Args:
        experiment: the content of the scenario file, with its configuration and secrets.
        environment: the environment variables, by name, for variables of type `env`.
        given: values by variable, which replace the values in the configuration. Unknown variables are ignored.
        overrides: values by variable, which replace the values in `given` and in the configuration. An unknown variable
            is an error.

    Raises:
        ScenarioError: a variable of the scenario is invalid or has no value, an override has an unknown name, or an
            action or probe of the scenario uses an undefined variable.
    """
    problems: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    chosen = {name: value for name, value in given.items() if name in experiment.configuration} | dict(overrides)
    for name in sorted(overrides.keys() - experiment.configuration.keys()):
        known = ", ".join(experiment.configuration) or "none"
        problems.append((f"--var {name}", f"the configuration has no such variable; it has: {known}"))
    for group, members in experiment.secrets.items():
        if not isinstance(members, dict) or "type" in members:
            problems.append((f"secrets.{group}", "must be a group of secrets, each with a name"))
            continue
        for name, value in members.items():
            _read(f"secrets.{group}.{name}", name, value, environment, values, problems)
    for name, value in experiment.configuration.items():
        if name in chosen:
            values[name] = chosen[name]
        else:
            _read(f"configuration.{name}", name, value, environment, values, problems)
    defined = experiment.configuration.keys() | {
        name for members in experiment.secrets.values() if isinstance(members, dict) for name in members
    }
    problems += _undefined(experiment, defined)
    if problems:
        raise ScenarioError("The scenario's variables cannot be settled.", problems=tuple(problems))
    return Variables(values)


def _read(
    field: str,
    name: str,
    value: Any,
    environment: Mapping[str, str],
    values: dict[str, Any],
    problems: list[tuple[str, str]],
) -> None:
    if not isinstance(value, dict) or "type" not in value:
        values[name] = value
        return
    if value["type"] != "env":
        problems.append((field, f"type is {str(value['type'])[:40]!r}; only env is read here"))
        return
    try:
        source = FromEnvironment.model_validate(value)
    except ValidationError as error:
        problems += [
            (f"{field}.{'.'.join(map(str, item['loc']))}", plain_message(item["msg"])) for item in error.errors()
        ]
        return
    if source.key not in environment and "default" not in source.model_fields_set:
        problems.append((field, f"the environment has no {source.key}, and there is no default"))
        return
    found = environment.get(source.key, source.default)
    try:
        values[name] = _READERS[source.env_var_type](str(found)) if source.env_var_type else found
    except ValueError:
        # The value is not repeated: it may be a secret.
        problems.append((field, f"the value of {source.key} is not of type {source.env_var_type}"))


def _undefined(experiment: Experiment, defined: set[str]) -> list[tuple[str, str]]:
    return [
        (activity.name, f"${{{name}}} is neither in configuration nor in secrets")
        for activity in experiment.activities()
        for name in sorted(_asked(activity) - defined)
    ]


def _asked(activity: Activity) -> set[str]:
    return set(VARIABLE.findall(activity.model_dump_json()))
