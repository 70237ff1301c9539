"""Scenarios by name and from files, YAML or JSON; each mistake is told with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from relab.core.yaml_source import YamlReader
from relab.testbed.scenarios.errors import ScenarioError, UnknownScenarioError
from relab.testbed.scenarios.models import Experiment, HttpProvider

_YAML: Final = YamlReader(
    ScenarioError,
    missing=UnknownScenarioError,
    missing_remedy="See: lab testbed scenarios",
    max_bytes=1_048_576,
    # chaostoolkit reads the same files, and by YAML 1.1.
    refuses_yaml_1_1=True,
)
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_TAG: Final = re.compile(r"<.*>")
EXTENSION: Final = "relab"
"""The name of the extension in which a shipped scenario says what it is for."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that was read.

    Attributes:
        name: of the file, without its suffix.
        document: the file's content as it stands.
    """

    name: str
    experiment: Experiment
    document: dict[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        """What the scenario says of itself: `purpose`, `faults`, `outcome`, `seconds`."""
        found = (each for each in self.document.get("extensions", []) if each.get("name") == EXTENSION)
        return dict(next(found, {}))


def shipped_names() -> list[str]:
    """Return the names of the scenarios that come with relab."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def find_scenario(name_or_path: str, *, allow_code: bool = False) -> Scenario:
    """Return a scenario: of a file if there is one, else the shipped one of this name.

    Raises:
        UnknownScenarioError: there is neither.
        ScenarioError: it cannot be read, is no scenario, or runs code that is not allowed.
    """
    path = Path(name_or_path)
    if path.suffix in _SUFFIXES or path.is_file():
        return parse_scenario(_YAML.read_text(path), path.stem, source=name_or_path, allow_code=allow_code)
    if name_or_path not in shipped_names():
        raise UnknownScenarioError(
            f"There is no scenario {name_or_path[:100]!r}.",
            remedy=f"Name a file (.yaml, .json), or one of: {', '.join(shipped_names())}.",
        )
    text = (_folder() / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    return parse_scenario(text, name_or_path, source=name_or_path)


def parse_scenario(text: str, name: str, *, source: str, allow_code: bool = False) -> Scenario:
    """Return the scenario that a text describes in YAML, of which JSON is a part.

    Raises:
        ScenarioError: with `source` and the place of each mistake.
    """
    read = _YAML.parse(text, Path(source))
    try:
        experiment = Experiment.model_validate(read.value)
    except ValidationError as error:
        problems = tuple(
            (_place(item["loc"]), _said(item["msg"], read.line_of(item["loc"]))) for item in error.errors()
        )
        raise ScenarioError(f"{source} is no scenario that can be run here.", problems=problems) from error
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


def _said(message: str, line: int) -> str:
    return f"{message.removeprefix('Value error, ')} (line {line})"
