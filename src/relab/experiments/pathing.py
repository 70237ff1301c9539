"""Where things are: the project's root, the harness, the data set, the runs."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LAB: Final = ".lab"
_INLINE = re.compile(
    r"(python|pypy|bash|sh|dash|zsh|ksh|fish)[\d.]* -[a-z]*c"
    r"|(node|deno|bun|perl|ruby|lua|julia|R|Rscript)[\d.]* (-[a-z]*[eEp]|--eval|--print)"
)
"""An interpreter and the option by which it is given a program's text, and no file."""
_ASSIGNMENT = re.compile(r"\w+=")
_SCRIPT_SUFFIXES = frozenset((".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".bash", ".rb", ".pl", ".R", ".jl", ".lua"))


_INTERPRETER = re.compile(r"(?:python|pypy|node|deno|bun|ruby|perl|php|julia|lua|Rscript|bash|dash|zsh|sh)[\d.]*$")


@dataclass(frozen=True, slots=True)
class Script:
    """What a command runs, as far as one can see.

    Attributes:
        path: the script or program; None if the command names none that is a file.
        exists: whether it is there.
        executable: whether it can be run; only asked of a program that is run itself.
    """

    path: Path | None
    exists: bool
    executable: bool = True


def project_root(experiment: Path) -> Path:
    """Return the folder that holds `.lab/`, or the one of the file if it lies in no `.lab/`."""
    folder = Path(os.path.normpath(experiment.absolute())).parent
    for candidate in (folder, *folder.parents):
        if candidate.name == LAB:
            return candidate.parent
    return folder


def runs_folder(root: Path) -> Path:
    """Return where the runs of a project are."""
    return root / LAB / "runs"


def dataset_path(experiment: Path, path: str) -> Path:
    """Return the data set: relative to the folder of the experiment's file."""
    return Path(os.path.normpath(experiment.absolute().parent / path))


def find_script(command: list[str], root: Path) -> Script:
    """Return what a command runs: the program if it is a path, else the script that an interpreter is given."""
    first, rest = command[0], command[1:]
    if "/" in first and _INTERPRETER.match(Path(first).name) is None:
        path = _under(root, first)
        return Script(path, path.is_file(), os.access(path, os.X_OK))
    for index, part in enumerate(rest):
        if part in {"-m", "--module"} and index + 1 < len(rest):
            return _module(rest[index + 1], root)
        if _INLINE.fullmatch(f"{first} {part}"):
            break
        path = _under(root, part)
        if part.startswith("-") or _ASSIGNMENT.match(part) or not _is_script(part, path):
            continue
        # An interpreter that is given a folder looks for the program in it.
        return Script(path, path.exists())
    found = shutil.which(_under(root, first) if "/" in first else first)
    return Script(Path(found) if found else None, found is not None)


def _is_script(part: str, path: Path) -> bool:
    """Tell a script from the name of an image, a package or a model, which may have a slash too."""
    return part.startswith((".", "/")) or Path(part).suffix in _SCRIPT_SUFFIXES or ("/" in part and path.exists())


def _module(name: str, root: Path) -> Script:
    base = root.joinpath(*name.split("."))
    candidates = (base.with_suffix(".py"), base / "__main__.py")
    for path in candidates:
        if path.is_file():
            return Script(path, exists=True)
    # A module may be installed and not lie in the project: only its own interpreter knows.
    if not (root / name.split(".", 1)[0]).exists():
        return Script(None, exists=True)
    return Script(candidates[0], exists=False)


def _under(root: Path, part: str) -> Path:
    return Path(os.path.normpath(root / part))
