"""cidiff: pairs of a passing and a failing log, with the error lines that two annotators marked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evals.datasets.source import MissingDataError
from relab.builds.logs.models import BuildLog
from relab.builds.logs.reading import read_log

NAME: Final = "cidiff"
EXPECTED: Final = 72
SHIFTED: Final = frozenset({"bukkit_2329", "bukkit_2336", "java8workshop_2462", "jsoup_2062", "jwt4b_233"})
"""The marks of these logs are shifted by several lines, so they are left out."""
TERRAFORM: Final = "terraform"
_DUMP: Final = "breakages_dump"
_RANGE: Final = re.compile(r"E\s+(\d+)(?:-(\d+))?$")


@dataclass(frozen=True)
class BuildCase:
    """A failed build with its passing counterpart.

    Attributes:
        name: the folder's name.
        project: the project; all workflows of Terraform are one.
        is_development: whether relab's formats were written with a view of this project's logs.
        failed: the log of the failed build.
        passed: the log of the passing build.
        first: the numbers of the error lines by the first annotator.
        second: the numbers of the error lines by the second annotator; None where only one annotated the log.
    """

    name: str
    project: str
    is_development: bool
    failed: BuildLog
    passed: BuildLog
    first: frozenset[int]
    second: frozenset[int] | None


def read(data: Path) -> list[BuildCase]:
    """Return the cases of the set in the data directory, without the shifted ones.

    Raises:
        MissingDataError: the folder is missing, or the number of cases differs from the published one.
    """
    folders = sorted(path.parent for path in (data / NAME).rglob("groundtruth") if path.parent.name not in SHIFTED)
    if len(folders) != EXPECTED:
        raise MissingDataError(f"{data / NAME} holds {len(folders)} cases, not the {EXPECTED} of the published set.")
    projects = sorted({_project(folder) for folder in folders} - {TERRAFORM})
    development = frozenset(projects[::2])
    return [_case(folder, development) for folder in folders]


def _case(folder: Path, development: frozenset[str]) -> BuildCase:
    project, second = _project(folder), folder / "groundtruth2"
    return BuildCase(
        folder.name,
        project,
        project in development,
        _log(folder / "fail.log"),
        _log(folder / "pass.log"),
        _marks(folder / "groundtruth"),
        _marks(second) if second.exists() else None,
    )


def _project(folder: Path) -> str:
    is_terraform = folder.parent.parent.name == _DUMP
    return TERRAFORM if is_terraform else folder.name.rpartition("_")[0]


def _log(path: Path) -> BuildLog:
    with path.open("rb") as file:
        return read_log(file)


def _marks(path: Path) -> frozenset[int]:
    numbers: set[int] = set()
    for line in path.read_text().splitlines():
        found = _RANGE.match(line.strip())
        if found:
            numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return frozenset(numbers)
