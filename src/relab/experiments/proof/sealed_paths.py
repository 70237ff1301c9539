"""Compare single files and folders of a run with its seal, without reading the rest of the run."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

from relab.experiments.errors import damaged
from relab.experiments.proof.folder_walk import list_folder, open_listed
from relab.experiments.proof.seal import SealDamagedError, SealedFolder, read_seal
from relab.experiments.records.file_names import SEAL


def changed_since_seal(run_dir: Path, paths: Iterable[str]) -> set[str]:
    """Return the files and folders that were changed since the run's seal (the digests of its files) was written.

    Args:
        run_dir: the folder of the run.
        paths: the paths to check, below the folder, with `/`; a folder includes everything below it.

    Returns:
        The members of `paths` that were changed or deleted after the seal was written, or that the seal does not
            contain. Empty if there is no seal: the run has not ended, or an earlier version of relab made it.

    Raises:
        RunDamagedError: the seal was changed.
    """
    wanted = set(paths)
    if not wanted or not (run_dir / SEAL).is_file():
        return set()
    names = defaultdict(set)
    for path in wanted:
        names[str(PurePosixPath(path).parent)].add(path)
    seen: set[str] = set()
    changed: set[str] = set()
    try:
        with (run_dir / SEAL).open("rb") as file, closing(read_seal(file)) as folders:
            for sealed in folders:
                folder = PurePosixPath(sealed.listing.folder)
                for path in names.get(str(folder), ()):
                    name = PurePosixPath(path).name
                    if name in sealed.fingerprints:
                        seen.add(path)
                        if not _is_same(run_dir, sealed, name):
                            changed.add(path)
                for path in {str(each) for each in (folder, *folder.parents)} & wanted:
                    seen.add(path)
                    if path not in changed and not _is_same_folder(run_dir, sealed):
                        changed.add(path)
    except SealDamagedError as error:
        raise damaged(run_dir / SEAL, error.what, line=error.line) from error
    return changed | (wanted - seen)


def _is_same_folder(run_dir: Path, sealed: SealedFolder) -> bool:
    listing = sealed.listing
    return list_folder(run_dir, listing.folder) == listing and all(_same_files(run_dir, sealed))


def _same_files(run_dir: Path, sealed: SealedFolder) -> Iterator[bool]:
    return (_is_same(run_dir, sealed, name) for name in sealed.fingerprints)


def _is_same(run_dir: Path, sealed: SealedFolder, name: str) -> bool:
    before = sealed.fingerprints[name]
    try:
        file = open_listed(run_dir, sealed.listing.path_of(name))
        if file is None or before is None:
            return False
        with file:
            return hashlib.file_digest(file, "sha256").hexdigest() == before.sha256
    except OSError:
        return before is None
