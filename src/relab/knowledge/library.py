"""The runbooks in use: those that are shipped, and over them those of a folder of the installation."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from relab.knowledge.errors import RunbookError, RunbookFolderError
from relab.knowledge.models import Runbook
from relab.knowledge.reading import parse_runbook, read_runbook

SUFFIX: Final = ".md"
MAX_FILES: Final = 1_000
_SHIPPED: Final = "shipped"

Problem = tuple[str, str]
"""A place, and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of one folder.

    Attributes:
        runbooks: those that could be read, in the order of their files; of one cause there may be several.
        problems: of the files that could not be read.
    """

    runbooks: tuple[Runbook, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Library:
    """What is in use at once: of each cause one runbook.

    Attributes:
        runbooks: by the name of their cause.
        problems: files that were left out, and why; the others are of use all the same.
        replaced: causes whose shipped runbook the folder replaces.
    """

    runbooks: tuple[Runbook, ...]
    problems: tuple[Problem, ...] = ()
    replaced: tuple[str, ...] = field(default=())

    def get(self, cause: str) -> Runbook | None:
        """Return the runbook of a cause."""
        return next((runbook for runbook in self.runbooks if runbook.cause == cause), None)


def load_library(folder: Path | None = None, *, without: Collection[str] = ()) -> Library:
    """Return the shipped runbooks, overlaid by those of a folder: one of the same cause replaces, another one adds.

    A file that is no runbook is left out and told: the responder of a night is not to lack all for one of them.

    Args:
        folder: of the installation.
        without: causes whose runbooks are not to be used, wherever they are.

    Raises:
        RunbookFolderError: the folder cannot be read.
    """
    shipped = shipped_shelf()
    own = folder_shelf(folder) if folder is not None else Shelf()
    problems = [*shipped.problems, *own.problems]
    below, above = (_first_of_each(shelf.runbooks, problems) for shelf in (shipped, own))
    both = {**below, **above}
    return Library(
        runbooks=tuple(both[cause] for cause in sorted(both) if cause not in without),
        problems=tuple(problems),
        replaced=tuple(sorted(below.keys() & above.keys())),
    )


@functools.cache
def shipped_shelf() -> Shelf:
    """Return the runbooks that come with relab; read once, for nodes of an incident ask for them again and again."""
    folder = resources.files("relab.knowledge") / "runbooks"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIX))
    runbooks, problems = list[Runbook](), list[Problem]()
    for name in names:
        try:
            runbooks.append(parse_runbook((folder / name).read_text(encoding="utf-8"), f"{_SHIPPED}/{name}"))
        except RunbookError as error:
            problems.extend(error.problems)
    return Shelf(tuple(runbooks), tuple(problems))


def folder_shelf(folder: Path) -> Shelf:
    """Return the runbooks of a folder's files that end in `.md`; folders in it are not looked into.

    Raises:
        RunbookFolderError: the folder is not there, cannot be read, or has more files than anybody would keep.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError as error:
        raise RunbookFolderError(
            f"The folder of runbooks {folder} cannot be read: {error.strerror}.",
            remedy="Make it (`lab serve` does so), or set RUNBOOKS_PATH to one that is there.",
        ) from error
    if len(paths) > MAX_FILES:
        raise RunbookFolderError(f"The folder of runbooks {folder} has {len(paths):,} files; {MAX_FILES:,} are read.")
    runbooks, problems = list[Runbook](), list[Problem]()
    for path in paths:
        try:
            runbooks.append(read_runbook(path))
        except RunbookError as error:
            problems.extend(error.problems or ((str(path), error.message),))
    return Shelf(tuple(runbooks), tuple(problems))


def _first_of_each(runbooks: Iterable[Runbook], problems: list[Problem]) -> Mapping[str, Runbook]:
    found: dict[str, Runbook] = {}
    for runbook in runbooks:
        first = found.setdefault(runbook.cause, runbook)
        if first is not runbook:
            problems.append((runbook.source, f"has the cause {runbook.cause!r} of {first.source}, and is left out"))
    return found
