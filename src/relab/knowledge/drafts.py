"""Store drafts of runbooks until a person accepts them. They are files in a separate folder, unused by responders."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.core.atomic_files import replace_file
from relab.knowledge.errors import DraftNotFoundError, RunbookFolderError
from relab.knowledge.library import SUFFIX, FileProblem, folder_shelf
from relab.knowledge.models import Runbook
from relab.knowledge.reading import read_text
from relab.knowledge.writing import write_runbook

FOLDER: Final = "drafts"
"""The folder of drafts, inside the folder of the runbooks; no file in it is in use."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A runbook that waits for a person to accept it.

    Attributes:
        runbook: the proposed runbook.
        path: the path of the draft's file. A person may edit the file before accepting the draft.
        diff: a unified diff from the active runbook for this cause to the draft; from an empty file if the cause has no
            active runbook.
        is_new: whether no active runbook has the cause of the draft.
    """

    runbook: Runbook
    path: Path
    diff: str
    is_new: bool


class Drafts:
    """Stores drafts of runbooks as files, in the subfolder `drafts` of the installation's folder of runbooks.

    Args:
        folder: the installation's folder of runbooks, not the subfolder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def put(self, runbook: Runbook) -> Path:
        """Write a runbook as a draft, and return the path of its file.

        An existing draft of the cause is kept, because a person may be editing it.

        Raises:
            RunbookFolderError: the folder cannot be written.
        """
        target = self._folder / f"{runbook.cause}{SUFFIX}"
        if target.exists():
            return target
        write_whole(target, write_runbook(runbook))
        return target

    def all(self, in_use: dict[str, Runbook]) -> tuple[list[Draft], tuple[FileProblem, ...]]:
        """Return the drafts, sorted by cause, and the problems of draft files that cannot be read.

        Args:
            in_use: the active runbooks, by cause. A draft's `diff` shows its changes to the active runbook.

        Raises:
            RunbookFolderError: the folder cannot be read.
        """
        if not self._folder.is_dir():
            return [], ()
        shelf = folder_shelf(self._folder)
        found = {each.cause: each for each in reversed(shelf.runbooks)}
        return [_draft(found[cause], in_use.get(cause)) for cause in sorted(found)], shelf.problems

    def get(self, cause: str, in_use: dict[str, Runbook]) -> Draft:
        """Return the draft (a runbook that waits for a person to accept it) for a cause.

        Args:
            cause: the cause.
            in_use: the active runbooks, by cause. The draft's `diff` shows its changes to the active runbook.

        Raises:
            DraftNotFoundError: the cause has no draft, or the draft's file cannot be read.
            RunbookFolderError: the folder cannot be read.
        """
        drafts, problems = self.all(in_use)
        found = next((each for each in drafts if each.runbook.cause == cause), None)
        if found is None:
            broken = (
                f" These files cannot be read: {'; '.join(': '.join(each) for each in problems)}." if problems else ""
            )
            raise DraftNotFoundError(
                f"There is no draft of the cause {cause[:100]!r}.{broken}", remedy="See: lab knowledge drafts"
            )
        return found

    def remove(self, draft: Draft) -> None:
        """Delete the file of a draft.

        Raises:
            RunbookFolderError: its file cannot be deleted.
        """
        try:
            draft.path.unlink(missing_ok=True)
        except OSError as error:
            raise RunbookFolderError(f"{draft.path} cannot be deleted: {error.strerror}.") from error


def _draft(runbook: Runbook, in_use: Runbook | None) -> Draft:
    path = Path(runbook.source)
    # Format both in the same way, so that the diff shows only differences in content.
    before = write_runbook(in_use).splitlines(keepends=True) if in_use is not None else []
    after = read_text(path) if in_use is None else write_runbook(runbook)
    source = in_use.source if in_use is not None else "/dev/null"
    diff = "".join(difflib.unified_diff(before, after.splitlines(keepends=True), source, str(path)))
    return Draft(runbook, path, diff, in_use is None)


def write_whole(target: Path, text: str) -> None:
    """Write the file `target` atomically, because a responder may read it at any moment; create its folder if needed.

    Raises:
        RunbookFolderError: the file cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, text.encode(), mode=0o644)
    except OSError as error:
        raise RunbookFolderError(f"{target} cannot be written: {error.strerror}.") from error
