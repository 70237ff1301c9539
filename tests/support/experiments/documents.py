"""Documents of experiments: an experiment file as it is read, and documents checked against their schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from relab.experiments.config.file import EXPERIMENT_YAML, check_config
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.schemas.documents import registry, schema_named


def read_config(path: Path) -> ExperimentConfig:
    """Read and validate an experiment file."""
    source = EXPERIMENT_YAML.read(path)
    return check_config(source.value, source)


def check_document(name: str, document: Any) -> None:
    """Fail if a document does not match the schema with this name."""
    Draft202012Validator(schema_named(name), registry=registry()).validate(document)
