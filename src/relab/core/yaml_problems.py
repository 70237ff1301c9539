"""Explain why a YAML file does not match a Pydantic model: file, line, field and reason of each problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from relab.core.errors import InvalidInputError
from relab.core.yaml_source import YamlSource, nearest


def yaml_error(
    error: ValidationError, source: YamlSource, model: type[BaseModel], kind: type[InvalidInputError]
) -> InvalidInputError:
    """Return (not raise) an error of the class `kind` that lists every problem as `file:line: field` and a message.

    Args:
        error: the validation error of the file's content.
        source: the file, for its lines.
        model: the model that the content was validated against, to suggest names for unknown fields.
        kind: class of the returned error.
    """
    problems = []
    for problem in error.errors(include_url=False):
        field = problem["loc"]
        problems.append((source.place(field), _message(problem, field, model)))
    first = "; ".join(f"{place}: {message}" for place, message in problems[:1])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return kind(f"{first}{more}.", problems=tuple(problems))


def _message(problem: Any, field: Sequence[str | int], model: type[BaseModel]) -> str:
    kind = problem["type"]
    if kind == "missing":
        return "is REQUIRED and missing"
    if kind == "extra_forbidden":
        return f"is an unknown field{nearest(str(field[-1]), _fields_of(model, field[:-1]))}"
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    given = problem["input"]
    if isinstance(given, str):
        shown = f", not {given[:80]!r}"
    else:
        # As JSON, so that a number is not shown in quotes like a text.
        shown = "" if isinstance(given, (dict, list)) else f", not {json.dumps(given)[:80]}"
    message: str = problem["msg"]
    return message[:1].lower() + message[1:] + shown


def _fields_of(whole: type[BaseModel], field: Sequence[str | int]) -> list[str]:
    model: Any = whole
    for part in field:
        if isinstance(part, int):
            continue
        found = model.model_fields.get(part)
        model = found.annotation if found is not None else None
        model = next((arg for arg in getattr(model, "__args__", ()) if isinstance(arg, type)), model)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return [found.alias or name for name, found in model.model_fields.items()]
