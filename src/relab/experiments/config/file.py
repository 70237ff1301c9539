"""Read and validate `.lab/experiment.yaml`; report each problem with its file, line and field."""

from __future__ import annotations

import copy
from typing import Any, Final

from pydantic import ValidationError

from relab.core.json import JsonValue, depth_of
from relab.core.yaml_limits import MAX_DEPTH
from relab.core.yaml_problems import yaml_error
from relab.core.yaml_source import YamlReader, YamlSource
from relab.experiments.config.models import VERSION, ExperimentConfig
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.sandbox.kinds import SandboxMode

EXPERIMENT_YAML: Final = YamlReader(ExperimentInvalidError, missing_remedy="Run `lab init` to write one.")
"""Reads an experiment file as YAML, and remembers the line of each field."""


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
    if depth_of(value) > MAX_DEPTH:
        raise ExperimentInvalidError(
            f"{source.path}: with its overrides, the experiment is nested deeper than {MAX_DEPTH} levels.",
            remedy="Set values that are less deeply nested.",
        )
    try:
        return ExperimentConfig.model_validate(_with_older_spellings(value))
    except ValidationError as error:
        raise yaml_error(error, source, ExperimentConfig, ExperimentInvalidError) from error


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
