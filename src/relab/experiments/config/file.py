"""Read and validate `.lab/experiment.yaml`; report each problem with its file, line and field."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from relab.core.json import JsonValue
from relab.core.yaml_source import YamlReader, YamlSource, nearest
from relab.experiments.config.models import VERSION, ExperimentConfig
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.sandbox.kinds import SandboxMode

EXPERIMENT_YAML: Final = YamlReader(ExperimentInvalidError, missing_remedy="Run `lab init` to write one.")
"""Reads an experiment file as YAML, and remembers the line of each field."""


def read_config(path: Path) -> ExperimentConfig:
    """Read and validate an experiment file.

    Raises:
        ExperimentInvalidError: the file is unreadable or invalid; the error names file, line and field of each problem.
    """
    source = EXPERIMENT_YAML.read(path)
    return check_config(source.value, source)


def check_config(value: JsonValue, source: YamlSource) -> ExperimentConfig:
    """Validate an experiment that was read from a file, and perhaps changed by overrides.

    Args:
        value: the content of the file, after overrides.
        source: the file as it was read, for the lines in errors.

    Raises:
        ExperimentInvalidError: the experiment is invalid; the error names file, line and field of each problem.
    """
    if not isinstance(value, dict):
        raise ExperimentInvalidError(
            f"{source.path}: an experiment must be a mapping of fields, not {type(value).__name__}."
        )
    try:
        return ExperimentConfig.model_validate(_with_older_spellings(value))
    except ValidationError as error:
        raise _explain(error, source) from error


def _with_older_spellings(value: dict[str, Any]) -> dict[str, Any]:
    value = copy.deepcopy(value)
    # YAML reads an unquoted 0.3 as a number.
    if value.get("version") == 0.3:
        value["version"] = VERSION
    runtime = value.get("runtime")
    sandbox = runtime.get("sandbox") if isinstance(runtime, dict) else None
    if isinstance(sandbox, dict) and sandbox.get("mode") == "docker":
        sandbox["mode"] = SandboxMode.CONTAINER.value
    return value


def _explain(error: ValidationError, source: YamlSource) -> ExperimentInvalidError:
    problems = []
    for problem in error.errors(include_url=False):
        field = problem["loc"]
        problems.append((source.place(field), _message(problem, field)))
    first = "; ".join(f"{place}: {message}" for place, message in problems[:1])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ExperimentInvalidError(f"{first}{more}.", problems=tuple(problems))


def _message(problem: Any, field: Sequence[str | int]) -> str:
    kind = problem["type"]
    if kind == "missing":
        return "is REQUIRED and missing"
    if kind == "extra_forbidden":
        return f"is an unknown field{nearest(str(field[-1]), _fields_of(field[:-1]))}"
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


def _fields_of(field: Sequence[str | int]) -> list[str]:
    model: Any = ExperimentConfig
    for part in field:
        if isinstance(part, int):
            continue
        found = model.model_fields.get(part)
        model = found.annotation if found is not None else None
        model = next((arg for arg in getattr(model, "__args__", ()) if isinstance(arg, type)), model)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return [found.alias or name for name, found in model.model_fields.items()]
