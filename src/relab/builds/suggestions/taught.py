"""Read and add known failures of an installation. People add them: one Markdown file per known failure, in one folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from relab.builds.suggestions.errors import KnownFailuresFolderError, KnownFailuresInvalidError
from relab.builds.suggestions.models import KnownFailure
from relab.builds.suggestions.reading import parse_failures, shipped_failures
from relab.core.atomic_files import replace_file
from relab.core.regular_files import open_regular_file

MAX_BYTES: Final = 262_144
_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SUFFIX: Final = ".md"


def known_failures(folder: Path) -> tuple[KnownFailure, ...]:
    """Return the known failures that relab ships, and those in the files of a folder.

    If both have a failure with the same id, the one in the folder is returned.

    Raises:
        KnownFailuresInvalidError: a file of the folder is unreadable or invalid; the message names the file.
    """
    found = {failure.id: failure for failure in shipped_failures()}
    found |= {failure.id: failure for path in sorted(folder.glob(f"*{_SUFFIX}")) for failure in [_read(path)[0]]}
    return tuple(found.values())


def teach(path: Path, folder: Path, *, replace: bool = False) -> tuple[KnownFailure, Path]:
    """Check the known failure in a file, and copy the file into a folder; return the failure and the path of the copy.

    A known failure is a kind of failure of builds, with its fix.

    Args:
        path: the path of a Markdown file with one section, in the format of the list that relab ships
            (`incidents.md`).
        folder: the folder of the known failures that people have added; it is created if it is missing.
        replace: whether to replace a file in the folder that has a known failure with the same id.

    Raises:
        KnownFailuresInvalidError: the file is unreadable or invalid, or the folder has a known failure with the same id
            and `replace` is false.
        KnownFailuresFolderError: the folder cannot be written.
    """
    failure, text = _read(path)
    target = folder / f"{failure.id}{_SUFFIX}"
    if target.exists() and not replace:
        raise KnownFailuresInvalidError(f"The file {target} exists already.", remedy="Use --replace to replace it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(target, text.encode())
    except OSError as error:
        raise KnownFailuresFolderError(f"{target} cannot be written: {error.strerror}.") from error
    return failure, target


def _read(path: Path) -> tuple[KnownFailure, str]:
    try:
        with open_regular_file(path) as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise KnownFailuresInvalidError(f"{path} cannot be read: {reason}.", remedy="Correct or remove it.") from error
    if len(raw) > MAX_BYTES:
        raise KnownFailuresInvalidError(f"{path} is larger than {MAX_BYTES:,} bytes.", remedy="Shorten it.")
    try:
        found = parse_failures(text)
    except KnownFailuresInvalidError as error:
        raise KnownFailuresInvalidError(f"{path}: {error.message}", remedy=error.remedy) from error
    if len(found) != 1:
        raise KnownFailuresInvalidError(
            f"{path} has {len(found)} sections `## Title`, not one.", remedy="Write one file for each known failure."
        )
    if not _ID.fullmatch(found[0].id):
        raise KnownFailuresInvalidError(
            f"{path}: the id {found[0].id[:100]!r} is invalid.", remedy="Use lower-case letters, digits and _."
        )
    return found[0], text
