"""Read plan files, and the plans that relab ships."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from relab.core.validation import problems_of
from relab.core.yaml_problems import yaml_error
from relab.core.yaml_source import YamlReader, YamlSource
from relab.rollouts.errors import PlanInvalidError
from relab.rollouts.plans.models import Plan

_YAML: Final = YamlReader(PlanInvalidError, missing_remedy="Run `lab rollout init` to write one.")


def read_plan(path: Path) -> Plan:
    """Read and validate a plan file.

    Raises:
        PlanInvalidError: the file is unreadable or invalid; the error names file, line and field of each problem.
    """
    return _plan_of(_YAML.read(path))


def parse_plan(text: str, source: str) -> Plan:
    """Return the plan that a YAML or JSON text describes; `source` names the text in errors.

    Raises:
        PlanInvalidError: the text is not a valid plan; the error names line and field of each problem.
    """
    return _plan_of(_YAML.parse(text, Path(source)))


def override_plan(plan: Plan, values: Mapping[str, Any]) -> Plan:
    """Return a copy of a plan with new values of top-level fields, `{field: value}`.

    Raises:
        PlanInvalidError: a value is invalid.
    """
    try:
        return Plan.model_validate({**plan.model_dump(mode="json"), **values})
    except ValidationError as error:
        raise PlanInvalidError("The plan is invalid.", problems=problems_of(error, root="plan")) from error


def flag_plan(key: str, *, a: str, b: str) -> Plan:
    """Return a plan that changes one of relab's own feature flags from the variant `a` to the variant `b`.

    Raises:
        PlanInvalidError: the key or a variant is not valid.
    """
    try:
        return Plan.model_validate({"subject": {"flags": {"kind": "product_flag", "key": key, "a": a, "b": b}}})
    except ValidationError as error:
        raise PlanInvalidError("The flag cannot be used.", problems=problems_of(error, root="plan")) from error


def default_plan() -> Plan:
    """Return the plan that `lab rollout` commands use if the user names no plan file."""
    return parse_plan(_shipped("default.yaml"), "default.yaml")


def starter_text() -> str:
    """Return the commented plan file that `lab rollout init` writes."""
    return _shipped("starter.yaml")


def _shipped(name: str) -> str:
    return (resources.files("relab.rollouts.plans") / name).read_text(encoding="utf-8")


def _plan_of(source: YamlSource) -> Plan:
    if not isinstance(source.value, dict):
        raise PlanInvalidError(f"{source.path}: a plan must be a mapping of fields, not {type(source.value).__name__}.")
    try:
        return Plan.model_validate(source.value)
    except ValidationError as error:
        raise yaml_error(error, source, Plan, PlanInvalidError) from error
