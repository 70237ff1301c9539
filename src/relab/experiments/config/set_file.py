"""Read set files: files that list the experiments of a set, which one command runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.ids import ExternalId
from relab.core.yaml_problems import yaml_error
from relab.experiments.config.file import EXPERIMENT_YAML
from relab.experiments.errors import ExperimentInvalidError

MAX_EXPERIMENTS: Final = 1_000


class SetFile(BaseModel):
    """A file that lists the experiments of a set.

    Attributes:
        id: the id of the set; None if the file gives none.
        experiments: the paths of experiment files, relative to the folder of this file.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: ExternalId | None = None
    experiments: list[str] = Field(min_length=1, max_length=MAX_EXPERIMENTS)


def is_set_file(path: Path) -> bool:
    """Return whether a file lists the experiments of a set, instead of being an experiment file.

    Raises:
        ExperimentInvalidError: the file cannot be read.
    """
    value = EXPERIMENT_YAML.read(path).value
    return isinstance(value, dict) and "experiments" in value


def read_set(paths: Sequence[Path]) -> tuple[list[Path], str | None]:
    """Read the files of a set; return all experiment files, and the id of the set.

    Args:
        paths: experiment files and set files. A set file is replaced by the experiment files that it lists.

    Returns:
        The experiment files, and the id in the first set file that has one; the id is None if no set file has one.

    Raises:
        ExperimentInvalidError: a file cannot be read, an experiment is listed twice, or there are too many.
    """
    found: list[Path] = []
    name = None
    for path in paths:
        source = EXPERIMENT_YAML.read(path)
        if not (isinstance(source.value, dict) and "experiments" in source.value):
            found.append(path)
            continue
        try:
            listed = SetFile.model_validate(source.value)
        except ValidationError as error:
            raise yaml_error(error, source, SetFile, ExperimentInvalidError) from error
        name = name or listed.id
        found += [path.parent / item for item in listed.experiments]
    resolved = [path.resolve() for path in found]
    twice = next((path for path in resolved if resolved.count(path) > 1), None)
    if twice is not None:
        raise ExperimentInvalidError(f"{twice} is listed twice in the set.")
    if len(found) > MAX_EXPERIMENTS:
        raise ExperimentInvalidError(f"A set has at most {MAX_EXPERIMENTS:,} experiments, not {len(found):,}.")
    return found, name
