"""Find every difference between the folder of a run and its seal, and the first changed byte of each changed file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relab.experiments.proof.fingerprints import (
    ChangedAt,
    Fingerprint,
    digest_of,
    find_change,
    first_difference,
)
from relab.experiments.proof.folder_walk import Listing, list_folder, open_listed
from relab.experiments.proof.seal import NOT_SEALED, FileReader, SealDamagedError, SealedFolder, read_seal, sealed_file
from relab.experiments.records.file_names import LOCK, SEAL

MAX_SHOWN: Final = 1_000
"""The largest number of differences that are kept; further ones are counted."""
_LINES: Final = (".jsonl", ".json", ".log", ".sql", ".digest", ".txt", ".yaml")
_PIECE: Final = 1_048_576

OnFile = Callable[[str, str], None]
"""Is called with the path of each unchanged file, and its SHA-256 in hexadecimal."""


@dataclass(frozen=True)
class Damage:
    """One difference between a run and its records.

    Attributes:
        path: the file or folder, below the run; for a bundle (a redacted archive of a run), the path below its folder
            `run/`, or the name of another entry.
        what: what is wrong, as the rest of a sentence that begins with the path, such as `is missing`.
        begin, end: the first changed byte is at an offset (from 0) with `begin <= offset < end`. None if no offset
            applies, for example because the file is missing.
        line: for a text file, the number (from 1) of the line that contains the offset `begin`; else None.
    """

    path: str
    what: str
    begin: int | None = None
    end: int | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the damage as JSON. `offset` is that of the first changed byte; null if it is not known exactly."""
        is_exact = self.begin is not None and self.end == self.begin + 1
        return {
            "path": self.path,
            "what": self.what,
            "offset": self.begin if is_exact else None,
            "begin": self.begin,
            "end": self.end,
            "line": self.line,
        }

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        if self.begin is None or self.end is None:
            return f"{place} {self.what}"
        where = f"at byte {self.begin:,}"
        if self.end > self.begin + 1:
            where = f"between byte {self.begin:,} and byte {self.end - 1:,}"
        return f"{place} {self.what}, first {where}"


class SealCheck:
    """Compares the folder of a run with its seal, which has the digests of the run's files.

    Args:
        run_dir: the folder.
        on_file: is called with the path and the SHA-256 of each unchanged file.

    Attributes:
        damage: the differences between the folder and the seal, in the order of the seal; at most `MAX_SHOWN`.
        count: the number of all differences.
        files, bytes: the number of files that were read, and their total size in bytes.
    """

    def __init__(self, run_dir: Path, on_file: OnFile = lambda _path, _sha256: None) -> None:
        self._root = run_dir
        self._on_file = on_file
        self.damage: list[Damage] = []
        self.count = 0
        self.files = self.bytes = 0
        self._reader = FileReader(run_dir, digest_of)

    def run(self) -> None:
        """Compare all files of the run with its seal (the digests of the files), and store the differences in `damage`.

        Raises:
            OSError: the seal cannot be read.
        """
        gone: set[str] = set()
        try:
            with (self._root / SEAL).open("rb") as file:
                for sealed in read_seal(file):
                    if sealed.listing.folder in gone:
                        gone.update(sealed.listing.path_of(name) for name in sealed.listing.folders)
                        continue
                    gone |= self._folder(sealed)
        except SealDamagedError as error:
            self.note(Damage(SEAL, error.what, error.begin, error.end, error.line))
        self._lock()

    def note(self, damage: Damage) -> None:
        """Count a difference between the run and its records; add it to `damage` unless this list is full."""
        self.count += 1
        if len(self.damage) < MAX_SHOWN:
            self.damage.append(damage)

    def _folder(self, sealed: SealedFolder) -> set[str]:
        """Compare one folder with its record in the run's seal; return the paths of the subfolders that are missing.

        The seal has the digests of the run's files.
        """
        then, now = sealed.listing, list_folder(self._root, sealed.listing.folder, NOT_SEALED)
        if then.problem != now.problem:
            self.note(
                Damage(then.folder or ".", "cannot be listed" if now.problem else "can be listed, but could not be")
            )
            return {then.path_of(name) for name in then.folders}
        there = set(now.files)
        for name in then.files:
            if name in there:
                self._file(then.path_of(name), sealed.fingerprints[name])
        self._names(then, now)
        for name, target in then.links.items():
            if now.links.get(name, target) != target:
                self.note(Damage(then.path_of(name), "is a link to another target"))
        return {then.path_of(name) for name in set(then.folders) - set(now.folders)}

    def _names(self, then: Listing, now: Listing) -> None:
        for kind, before, after in (
            ("file", then.files, now.files),
            ("folder", then.folders, now.folders),
            ("link", tuple(then.links), tuple(now.links)),
            ("special file", then.others, now.others),
        ):
            if before == after:
                continue
            for name in sorted(set(before) - set(after)):
                self.note(Damage(then.path_of(name), f"is missing: it was a {kind}"))
            for name in sorted(set(after) - set(before)):
                self.note(Damage(then.path_of(name), f"was added: it is a {kind} that is not in the seal"))

    def _file(self, path: str, before: Fingerprint | None) -> None:
        found = self._reader.read(path)
        if found is None:
            if before is not None:
                self.note(Damage(path, "cannot be read any more"))
            return
        sha256, size = found
        self.files += 1
        self.bytes += size
        if before is None:
            self.note(Damage(path, "can be read, but could not be when the run was sealed"))
        elif sha256 == before.sha256:
            self._on_file(path, sha256)
        else:
            self.note(self._place(path, before))

    def _place(self, path: str, before: Fingerprint) -> Damage:
        with (self._root / path).open("rb") as file:
            changed = find_change(before, file)
        if changed is None:
            return Damage(path, "was changed while it was checked")
        if not changed.is_exact:
            changed = self._exact(path, before) or changed
        size = (self._root / path).stat().st_size
        what = f"was changed after the run was sealed (it had {before.size:,} bytes, and has {size:,})"
        return Damage(path, what, changed.begin, changed.end, _line_at(self._root / path, changed.begin))

    def _exact(self, path: str, before: Fingerprint) -> ChangedAt | None:
        """Return the place of a file's first changed byte, by comparison with an unchanged copy.

        The copy is another file of the run that had the same content when the run was sealed. None if there is no copy.

        Args:
            path: the changed file, below the folder of the run.
            before: the fingerprint of the file at the end of the run.
        """
        try:
            # Another file of the run may have had the same content when the run was sealed.
            for other in sealed_file(self._root / SEAL, before.sha256, before.size):
                copy = None if other == path else open_listed(self._root, other)
                if copy is None:
                    continue
                with copy, (self._root / path).open("rb") as file:
                    if hashlib.file_digest(copy, "sha256").hexdigest() != before.sha256:
                        continue
                    copy.seek(0)
                    at = first_difference(copy, file)
                return None if at is None else ChangedAt(at, at + 1)
        except (SealDamagedError, OSError):
            return None
        return None

    def _lock(self) -> None:
        lock = self._root / LOCK
        try:
            content = lock.read_bytes()[:_PIECE]
        except FileNotFoundError:
            self.note(Damage(LOCK, "is missing"))
        except OSError as error:
            self.note(Damage(LOCK, f"cannot be read: {error.strerror}"))
        else:
            if content:
                self.note(Damage(LOCK, "is not empty, although no process works on the run", 0, 1))


def _line_at(path: Path, offset: int) -> int | None:
    if path.suffix not in _LINES:
        return None
    count, left = 1, offset
    with path.open("rb") as file:
        while left and (piece := file.read(min(left, _PIECE))):
            count += piece.count(b"\n")
            left -= len(piece)
    return count
