"""Read scenarios by name or from YAML and JSON files; report each mistake with its field and line."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from relab.core.validation import plain_message
from relab.core.yaml_source import YamlReader
from relab.testbed.scenarios.errors import ScenarioError, UnknownScenarioError
from relab.testbed.scenarios.models import Experiment, HttpProvider

_YAML: Final = YamlReader(
    ScenarioError,
    missing=UnknownScenarioError,
    missing_remedy="See: lab testbed scenarios",
    max_bytes=1_048_576,
    # chaostoolkit reads the same files by the rules of YAML 1.1.
    refuses_yaml_1_1=True,
)
_JSON: Final = replace(_YAML, refuses_yaml_1_1=False)
"""Reads a JSON file, whose numbers (1e3) have one meaning."""
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_TAG: Final = re.compile(r"<.*>")
EXTENSION: Final = "relab"
"""The name of the extension in which a shipped scenario describes its purpose."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A parsed scenario.

    Attributes:
        name: name of the file without its suffix.
        experiment: the validated content of the file.
        document: the content of the file before the validation.
    """

    name: str
    experiment: Experiment
    document: dict[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        """The scenario file's own description: `purpose`, `faults`, `outcome` and `seconds`; {} if it has none."""
        found = (each for each in self.document.get("extensions", []) if each.get("name") == EXTENSION)
        return dict(next(found, {}))


def shipped_names() -> list[str]:
    """Return the names of the scenarios that come with relab."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def find_scenario(name_or_path: str, *, allow_code: bool = False) -> Scenario:
    """Return the scenario in a file, or the scenario of this name that comes with relab.

    Args:
        name_or_path: the path of a file, or a name. It counts as a path if it ends with `.yaml`, `.yml` or `.json`, or
            if a file with this path exists.
        allow_code: whether a file may contain commands and Python functions, which run on this machine.

    Raises:
        UnknownScenarioError: no scenario has this name.
        ScenarioError: the file cannot be read, is not valid, or has code without `allow_code`.
    """
    path = Path(name_or_path)
    # Unlike the method of `Path`, this accepts a text that is too long for a path.
    if path.suffix in _SUFFIXES or os.path.isfile(path):  # noqa: PTH113
        return parse_scenario(_YAML.read_text(path), path.stem, source=name_or_path, allow_code=allow_code)
    if name_or_path not in shipped_names():
        raise UnknownScenarioError(
            f"There is no scenario {name_or_path[:100]!r}.",
            remedy=f"Name a file (.yaml, .json), or one of: {', '.join(shipped_names())}.",
        )
    text = (_folder() / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    return parse_scenario(text, name_or_path, source=name_or_path)


def parse_scenario(text: str, name: str, *, source: str, allow_code: bool = False) -> Scenario:
    """Return the scenario that a text in YAML or JSON describes.

    Args:
        text: the content of a scenario file.
        name: the name of the scenario.
        source: the path or name of the text, for error messages; a `source` that ends with `.json` means JSON, any
            other means YAML.
        allow_code: whether the text may contain commands and Python functions, which run on this machine.

    Raises:
        ScenarioError: the text is not valid, or has code without `allow_code`; the error lists each mistake with field
            and line.
    """
    reader = _JSON if source.endswith(".json") else _YAML
    read = reader.parse(text, Path(source))
    try:
        experiment = Experiment.model_validate(read.value)
    except ValidationError as error:
        problems = tuple(
            (_place(item["loc"]), f"{plain_message(item['msg'])} (line {read.line_of(item['loc'])})")
            for item in error.errors()
        )
        raise ScenarioError(f"{source} is not a valid scenario.", problems=problems) from error
    assert isinstance(read.value, dict), "an experiment is a mapping"
    if not allow_code:
        _refuse_code(experiment, source)
    return Scenario(name, experiment, read.value)


def _refuse_code(experiment: Experiment, source: str) -> None:
    problems = tuple(
        (activity.name, f"its provider is {activity.provider.type}, which runs code of the file's choice")
        for activity in experiment.activities()
        if not isinstance(activity.provider, HttpProvider)
    )
    if problems:
        raise ScenarioError(
            f"{source} runs code on this machine.", problems=problems, remedy="If you trust it: --allow-code."
        )


def _folder() -> Any:
    return resources.files("relab.testbed.scenarios") / "files"


def _place(parts: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in parts if not _TAG.fullmatch(str(part))) or "file"
