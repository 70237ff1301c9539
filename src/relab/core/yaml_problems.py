"""Explain why a YAML file does not match a Pydantic model: file, line, field and reason of each problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from relab.core.errors import InvalidInputError
from relab.core.validation import FieldValueError, message_with_value
from relab.core.yaml_source import YamlSource, nearest


def yaml_error(
    error: ValidationError, source: YamlSource, model: type[BaseModel], kind: type[InvalidInputError]
) -> InvalidInputError:
    """Return (not raise) an error about a file that does not match its model.

    `problems` of the error has all problems, as `(file:line: field, message)` pairs. Its message has the first problem
    and the number of the others.

    Args:
        error: the error that Pydantic raised for the content of the file.
        source: the file, with the line of each field.
        model: the model of the file; for an unknown field, the most similar field of the model is suggested.
        kind: the class of the returned error.
    """
    problems = []
    found = error.errors(include_url=False)
    for problem in found:
        if problem["type"] == "too_short" and any(_is_inside(other["loc"], problem["loc"]) for other in found):
            # Pydantic counts only the valid items: the list is too short because of the problems in its items.
            continue
        field, models = _resolved(problem["loc"], model)
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, FieldValueError):
            field += cause.field
        problems.append((source.place(field), _message(problem, field, models)))
    first = "; ".join(f"{place}: {message}" for place, message in problems[:1])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return kind(f"{first}{more}.", problems=tuple(problems))


def _is_inside(location: Sequence[str | int], outer: Sequence[str | int]) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _message(problem: Any, field: Sequence[str | int], models: Sequence[type[BaseModel]]) -> str:
    kind = problem["type"]
    if kind == "missing":
        return "is REQUIRED and missing"
    if kind == "extra_forbidden":
        known = [found.alias or name for model in models for name, found in model.model_fields.items()]
        return f"is an unknown field{nearest(str(field[-1]), known)}"
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    message = message_with_value(problem)
    return message[:1].lower() + message[1:]


def _resolved(
    location: Sequence[str | int], whole: type[BaseModel]
) -> tuple[tuple[str | int, ...], Sequence[type[BaseModel]]]:
    """Return the path to the field with a problem, and the models that this field may belong to.

    The location also contains a part for each union of models: the tag or the name of a model. The path does not.

    Args:
        location: the location of the problem, as Pydantic reports it.
        whole: the model of the whole file.
    """
    path: list[str | int] = []
    models, owners = [whole], [whole]
    for part in location:
        # For a union, the location also contains the tag or the name of the tried model, which is no key of the file.
        if len(models) > 1 and (chosen := [model for model in models if _is_called(model, part)]):
            models = owners = chosen
            continue
        path.append(part)
        if isinstance(part, str):
            owners = models
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            models = [model for field in fields for model in _models_in(field.annotation)]
    return tuple(path), owners


def _is_called(model: type[BaseModel], part: str | int) -> bool:
    tags = (
        get_args(field.annotation) for field in model.model_fields.values() if get_origin(field.annotation) is Literal
    )
    return part == model.__name__ or any(part in tag for tag in tags)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return all models in a type annotation, for example both models of the union `A | B`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
