"""The active runbooks: those in the installation's folder, and the shipped runbooks for all other causes."""

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

FileProblem = tuple[str, str]
"""A place (file, line and field), and the message that says what is wrong there."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The runbooks in the files of one folder.

    Attributes:
        runbooks: the runbooks that could be read, in the order of their files. Several may have the same cause.
        problems: the errors in files that could not be read.
    """

    runbooks: tuple[Runbook, ...] = ()
    problems: tuple[FileProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class Library:
    """The active runbooks (those that responders use), one for each cause.

    Attributes:
        runbooks: the runbooks, sorted by cause.
        problems: the files that are not used, and why.
        replaced: the causes for which a runbook in the installation's folder replaces the shipped one; also causes that
            are left out.
    """

    runbooks: tuple[Runbook, ...]
    problems: tuple[FileProblem, ...] = ()
    replaced: tuple[str, ...] = field(default=())

    def get(self, cause: str) -> Runbook | None:
        """Return the active runbook for a cause; None if no active runbook has this cause."""
        return next((runbook for runbook in self.runbooks if runbook.cause == cause), None)


def load_library(folder: Path | None = None, *, without: Collection[str] = ()) -> Library:
    """Read and return the active runbooks: those in the folder, and the shipped ones for all other causes.

    Invalid files are left out; the result's `problems` names them.

    Args:
        folder: the folder of the installation's own runbooks; None: there is no such folder.
        without: causes to leave out; neither a shipped runbook nor an own one is used for them.

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
    """Return the runbooks that relab ships; they are read once and then cached."""
    folder = resources.files("relab.knowledge") / "runbooks"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIX))
    runbooks, problems = list[Runbook](), list[FileProblem]()
    for name in names:
        try:
            runbooks.append(parse_runbook((folder / name).read_text(encoding="utf-8"), f"{_SHIPPED}/{name}"))
        except RunbookError as error:
            problems.extend(error.problems)
    return Shelf(tuple(runbooks), tuple(problems))


def folder_shelf(folder: Path) -> Shelf:
    """Return the runbooks in the `.md` files of a folder, and the errors in files that could not be read.

    Subfolders are not read.

    Raises:
        RunbookFolderError: the folder does not exist, cannot be read, or has more than `MAX_FILES` files.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError as error:
        raise RunbookFolderError(
            f"The folder of runbooks {folder} cannot be read: {error.strerror}.",
            remedy="Create it (`lab serve` does so), or set RUNBOOKS_PATH to an existing folder.",
        ) from error
    if len(paths) > MAX_FILES:
        raise RunbookFolderError(
            f"The folder of runbooks {folder} has {len(paths):,} files; at most {MAX_FILES:,} are read."
        )
    runbooks, problems = list[Runbook](), list[FileProblem]()
    for path in paths:
        try:
            runbooks.append(read_runbook(path))
        except RunbookError as error:
            problems.extend(error.problems or ((str(path), error.message),))
    return Shelf(tuple(runbooks), tuple(problems))


def _first_of_each(runbooks: Iterable[Runbook], problems: list[FileProblem]) -> Mapping[str, Runbook]:
    found: dict[str, Runbook] = {}
    for runbook in runbooks:
        first = found.setdefault(runbook.cause, runbook)
        if first is not runbook:
            problems.append((runbook.source, f"has the cause {runbook.cause!r} of {first.source}, and is left out"))
    return found
