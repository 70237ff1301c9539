"""List the folder of a run in one order that depends on the names only, without following links."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final

from relab.experiments.workspace.untrusted_trees import MAX_HOLES, check_holes

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Listing:
    """The entries of one folder.

    Attributes:
        folder: the folder's path below the root, with `/`; empty for the root.
        files: the names of regular files, sorted.
        folders: the names of folders, sorted.
        links: `{name: target}` of the symbolic links.
        others: the names of devices, pipes and sockets, sorted.
        problem: if the folder cannot be listed, the number of the error (`errno`) as text; else None.
    """

    folder: str
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    problem: str | None = None

    def path_of(self, name: str) -> str:
        """Return the path of the entry `name` of this folder, relative to the root folder."""
        return f"{self.folder}/{name}" if self.folder else name


def listings(root: Path, left_out: Collection[str] = ()) -> Iterator[Listing]:
    """Yield the listing of `root`, and of each folder below it, in the order of the folders' names.

    Args:
        root: the folder.
        left_out: paths below `root`, with `/`, of files and folders that are not listed.
    """
    stack = [""]
    while stack:
        listing = list_folder(root, stack.pop(), left_out)
        yield listing
        stack += [listing.path_of(name) for name in reversed(listing.folders)]


def list_folder(root: Path, folder: str, left_out: Collection[str] = ()) -> Listing:
    """Return the entries of one folder; `folder` is its path below `root`, and paths in `left_out` are not listed."""
    files, folders, links, others = [], [], {}, []
    try:
        # Paths are text in this module: there may be very many, and path objects took a third of a verification.
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if left_out and (f"{folder}/{entry.name}" if folder else entry.name) in left_out:
                    continue
                if entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_symlink():
                    links[entry.name] = os.readlink(entry.path)  # noqa: PTH115 as above
                else:
                    others.append(entry.name)
    except OSError as error:
        # A harness can leave a path that is too long, or a folder that another user owns.
        return Listing(folder, problem=str(error.errno))
    return Listing(
        folder, tuple(sorted(files)), tuple(sorted(folders)), dict(sorted(links.items())), tuple(sorted(others))
    )


def descriptor_of(root: Path, path: str) -> tuple[int, os.stat_result] | None:
    """Open a file below a folder for reading; return its descriptor and its status.

    The caller closes the descriptor. Return None if the path is not a regular file (any more): a file may be replaced
    after its folder was listed.

    Args:
        root: the folder.
        path: the path of the file below `root`, with `/`.

    Raises:
        OSError: the file cannot be read, or more than `MAX_HOLES` bytes of it are holes (not stored on the disk).
    """
    # `_READ` is non-blocking, because the path may be a pipe by now.
    descriptor = os.open(f"{root}/{path}", _READ)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            if status.st_size > MAX_HOLES:
                check_holes(root / path, status)
            return descriptor, status
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def open_listed(root: Path, path: str) -> FileIO | None:
    """Open a file below a folder for reading.

    Return None if the path is not a regular file (any more): a file may be replaced after its folder was listed.

    Args:
        root: the folder.
        path: the path of the file below `root`, with `/`.

    Raises:
        OSError: the file cannot be read, or more than `MAX_HOLES` bytes of it are holes (not stored on the disk).
    """
    opened = descriptor_of(root, path)
    return None if opened is None else os.fdopen(opened[0], "rb", buffering=0)
