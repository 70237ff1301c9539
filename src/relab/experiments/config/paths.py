"""Find the paths of a project: its root, the harness's script, the data set, and the folder of runs."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LAB: Final = ".lab"
RESCORED: Final = "rescored"
REPLAYS: Final = "replays"
"""The folder below `LAB` with the replays of trials."""
DATASET_PACKS: Final = "dataset_packs"
"""The folder below `LAB` with the files that tasks mount."""
SETS: Final = "sets"
"""The folder below `LAB` with the records of sets of experiments."""
_INLINE = re.compile(
    r"(python|pypy|bash|sh|dash|zsh|ksh|fish)[\d.]* -[a-z]*c"
    r"|(node|deno|bun|perl|ruby|lua|julia|R|Rscript)[\d.]* (-[a-z]*[eEp]|--eval|--print)"
)
"""Matches an interpreter followed by an option that takes program text instead of a file, such as `python -c`."""
_ASSIGNMENT = re.compile(r"\w+=")
_SCRIPT_SUFFIXES = frozenset((".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".bash", ".rb", ".pl", ".R", ".jl", ".lua"))


_INTERPRETER = re.compile(r"(?:python|pypy|node|deno|bun|ruby|perl|php|julia|lua|Rscript|bash|dash|zsh|sh)[\d.]*$")


@dataclass(frozen=True, slots=True)
class Script:
    """The script or program that a command runs.

    Attributes:
        path: the file of the script or program; None for a module outside of the project, and for a program that is
            not found.
        exists: whether the file exists.
        executable: whether the file can be executed; checked only for a program that is started directly, else True.
    """

    path: Path | None
    exists: bool
    executable: bool = True


def project_root(experiment: Path) -> Path:
    """Return the root of the project of an experiment file: the folder that contains `.lab/`.

    For a file that is not below a `.lab/`, return the folder of the file.
    """
    folder = Path(os.path.normpath(experiment.absolute())).parent
    for candidate in (folder, *folder.parents):
        if candidate.name == LAB:
            return candidate.parent
    return folder


def runs_folder(root: Path) -> Path:
    """Return the folder in which the runs of the project at `root` are stored."""
    return root / LAB / "runs"


def dataset_path(experiment: Path, path: str) -> Path:
    """Return the path of a data set.

    Args:
        experiment: the experiment file.
        path: the path of the data set, relative to the folder of the experiment file.
    """
    return Path(os.path.normpath(experiment.absolute().parent / path))


def find_script(command: list[str], root: Path) -> Script:
    """Find the file that a command runs: a script if an interpreter runs one, else the program.

    The first case that applies decides:

    1. The program is given as a path, such as `./run`, and is not an interpreter such as `./venv/bin/python`: return
       the program.
    2. The arguments name a script or a module: return the file of this script or module.
    3. Otherwise: return the program. It is searched on the PATH if its name has no slash.

    Args:
        command: the program and its arguments.
        root: the project's folder; relative paths are relative to this folder.
    """
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
        # `exists` and not `is_file`, because an interpreter can also run a folder.
        return Script(path, path.exists())
    found = shutil.which(_under(root, first) if "/" in first else first)
    return Script(Path(found) if found else None, found is not None)


def _is_script(part: str, path: Path) -> bool:
    """Return whether a word of a command is probably the path of a script.

    Args:
        part: the word.
        path: the file that the word would name.
    """
    # A word with a slash may also name an image, a package or a model, so its file must exist.
    return part.startswith((".", "/")) or Path(part).suffix in _SCRIPT_SUFFIXES or ("/" in part and path.exists())


def _module(name: str, root: Path) -> Script:
    base = root.joinpath(*name.split("."))
    candidates = (base.with_suffix(".py"), base / "__main__.py")
    for path in candidates:
        if path.is_file():
            return Script(path, exists=True)
    # An installed module outside of the project is visible only to its own interpreter, so it counts as existing.
    if not (root / name.split(".", 1)[0]).exists():
        return Script(None, exists=True)
    return Script(candidates[0], exists=False)


def _under(root: Path, part: str) -> Path:
    return Path(os.path.normpath(root / part))
