"""Write and read the seal of a run: a file with the fingerprints of the run's other files.

`seal.jsonl` has one line for each folder, in the order of `folder_walk.listings`, with the fingerprints of the files in
this folder. All files are sealed, whatever their name, except those in `NOT_SEALED`.

Each line ends with a checksum over itself and the checksum of the line before, and the last line has the totals. So a
check finds damage of the seal itself, with the number of the damaged line. The seal is not signed, but the signed
statements (`statements.py`) contain its digest.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Generic, TypeVar

import jiter

from relab.core.atomic_files import replacing
from relab.experiments.proof.fingerprints import BLOCK_BYTES, Fingerprint, fingerprint
from relab.experiments.proof.folder_walk import Listing, descriptor_of, listings
from relab.experiments.records.file_names import LOCK, PAUSE_REQUEST, SEAL, SEAL_FORMAT, STATEMENTS

NOT_SEALED: Final = frozenset(
    (SEAL, STATEMENTS, LOCK, PAUSE_REQUEST,
     "analysis/agentlab.duckdb", "analysis/agentlab.duckdb.wal", "analysis/agentlab.duckdb.tmp")
)  # fmt: skip
"""Files that the seal leaves out: itself, the statements about it, the lock, a request to pause, and a user's database.

The lock is empty unless a process works on the run, which is checked. Another process may write a request to pause while
the seal is written. The database of the tables is the user's own.
"""
_CHECK: Final = b',"check":"'
_END: Final = b'"}\n'
_HEX: Final = 32
_TAIL: Final = len(_CHECK) + _HEX + len(_END)
_START: Final = "0" * _HEX
_NO_NAMES: Final = frozenset(("", ".", ".."))
_MAX_LINKED: Final = 10_000
"""How many files with several names are remembered, so that each is read once."""

ReadT = TypeVar("ReadT")


@dataclass(frozen=True)
class SealTotals:
    """The totals of a run's seal (the file with the digests of the run's files), and the digest of the seal itself.

    Attributes:
        sha256: the SHA-256 of `seal.jsonl`, in hexadecimal.
        folders, files: the numbers of folders and files in the seal.
        bytes: the sum of the sizes of these files.
    """

    sha256: str
    folders: int
    files: int
    bytes: int


@dataclass(frozen=True)
class SealedFolder:
    """The entries and fingerprints of one folder of a run, as one line of the run's seal records them.

    The seal is the file with the digests of the run's files.

    Attributes:
        listing: the entries of the folder.
        fingerprints: `{file name: fingerprint}`. A fingerprint is the size, the SHA-256 and the block checksums of a
            file; None for a file that could not be read.
    """

    listing: Listing
    fingerprints: dict[str, Fingerprint | None] = field(default_factory=dict)


class SealDamagedError(Exception):
    """A line of a run's seal (the file with the digests of its files) was changed, or lines are missing.

    Attributes:
        line: the number of the damaged line, from 1.
        begin, end: the offsets of the line's first byte and of the byte after its last one.
        what: what is wrong with the line, as the end of a sentence whose subject is the line, such as `was added`.
    """

    def __init__(self, line: int, begin: int, end: int, what: str) -> None:
        super().__init__(what)
        self.line, self.begin, self.end, self.what = line, begin, end, what


def write_seal(run_dir: Path) -> SealTotals:
    """Write the seal of a run (the digests of its files), replacing an earlier one.

    Nothing else may write in the run's folder at the same time.

    Raises:
        OSError: the seal cannot be written, for example on a full disk.
    """
    whole, check, folders, files, total = hashlib.sha256(), _START, 0, 0, 0
    reader = FileReader(run_dir, fingerprint)
    with replacing(run_dir / SEAL, durable=True) as fresh, fresh.open("wb") as out:

        def write(document: dict[str, Any]) -> None:
            nonlocal check
            payload = json.dumps(document, separators=(",", ":")).encode()[:-1]
            check = _check_of(check, payload)
            line = payload + _CHECK + check.encode() + _END
            whole.update(line)
            out.write(line)

        write({"seal": SEAL_FORMAT, "block_bytes": BLOCK_BYTES, "not_sealed": sorted(NOT_SEALED)})
        for listing in listings(run_dir, {*NOT_SEALED, fresh.name}):
            found = {name: reader.read(listing.path_of(name)) for name in listing.files}
            write(_to_json(SealedFolder(listing, found)))
            folders += 1
            files += len(found)
            total += sum(each.size for each in found.values() if each is not None)
        write({"end": {"folders": folders, "files": files, "bytes": total}})
    return SealTotals(whole.hexdigest(), folders, files, total)


def read_seal(file: IO[bytes]) -> Generator[SealedFolder]:
    """Yield each folder that a seal (the file with the digests of a run's files) describes, in the order of the seal.

    Each line of `file`, which is open for reading, is checked against the line before.

    Raises:
        SealDamagedError: a line was changed, or lines are missing.
        OSError: the file cannot be read.
    """
    check, begin, number, folders, is_ended, promised = _START, 0, 0, 0, False, None
    # A forged seal must not lead a reader out of the folder, so the order of `folder_walk.listings` is required.
    expected = [""]
    for number, line in enumerate(file, start=1):
        end = begin + len(line)
        payload, tail = line[:-_TAIL], line[-_TAIL:]
        check = _check_of(check, payload)
        if is_ended or tail != _CHECK + check.encode() + _END:
            what = "was added" if is_ended else "was changed, or a line before it is missing"
            raise SealDamagedError(number, begin, end, what)
        try:
            document = _parsed(payload + b"}")
            if "end" in document:
                is_ended, promised = True, document["end"]["folders"]
            elif number > 1:
                folders += 1
                sealed = _from_json(document)
                if sealed.listing.folder != expected.pop():
                    raise SealDamagedError(number, begin, end, "is not the line of the next folder")
                expected += [sealed.listing.path_of(name) for name in reversed(sealed.listing.folders)]
                yield sealed
            elif document["seal"] != SEAL_FORMAT:
                raise SealDamagedError(number, begin, end, f"names the unknown format {document['seal']!r}")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise SealDamagedError(number, begin, end, f"is not a line of a seal: {error}") from error
        begin = end
    if not is_ended or promised != folders:
        raise SealDamagedError(number + 1, begin, begin + 1, "is missing: the seal was cut")


def sealed_file(path: Path, sha256: str, size: int) -> Iterator[str]:
    """Yield the paths of all files with this SHA-256 and this size in bytes, according to the run's seal at `path`.

    The seal is the file with the digests of the run's files.

    Raises:
        SealDamagedError: a line of the seal was changed, or lines are missing.
        OSError: the seal cannot be read.
    """
    with path.open("rb") as file, closing(read_seal(file)) as folders:
        for sealed in folders:
            for name, found in sealed.fingerprints.items():
                if found is not None and found.sha256 == sha256 and found.size == size:
                    yield sealed.listing.path_of(name)


class FileReader(Generic[ReadT]):
    """Computes a value from each file of a run; a file with several names (hard links) is normally read only once.

    Args:
        root: the folder of the run.
        read: computes a value from a file's descriptor and its size in bytes, for example its digest.
    """

    def __init__(self, root: Path, read: Callable[[int, int], ReadT]) -> None:
        self._root = root
        self._read = read
        self._linked: dict[tuple[int, int], ReadT] = {}

    def read(self, path: str) -> ReadT | None:
        """Return the value that the constructor's function `read` computes from the file `path` of the run.

        Return None if the path is not a regular file, or the file cannot be read. For a further name of the same file,
        the value is normally not computed again.
        """
        try:
            opened = descriptor_of(self._root, path)
            if opened is None:
                return None
            descriptor, status = opened
            try:
                if status.st_nlink == 1:
                    return self._read(descriptor, status.st_size)
                key = (status.st_dev, status.st_ino)
                if key not in self._linked:
                    if len(self._linked) >= _MAX_LINKED:
                        self._linked.clear()
                    self._linked[key] = self._read(descriptor, status.st_size)
                return self._linked[key]
            finally:
                os.close(descriptor)
        except OSError:
            return None


def _to_json(sealed: SealedFolder) -> dict[str, Any]:
    listing = sealed.listing
    document: dict[str, Any] = {"folder": listing.folder}
    if sealed.fingerprints:
        document["files"] = {
            name: None
            if found is None
            else [found.size, found.sha256, binascii.b2a_base64(found.blocks, newline=False).decode()]
            for name, found in sealed.fingerprints.items()
        }
    for name in ("folders", "links", "others", "problem"):
        if value := getattr(listing, name):
            document[name] = value
    return document


def _from_json(document: dict[str, Any]) -> SealedFolder:
    files = document.get("files", {})
    names = [*files, *document.get("folders", ())]
    joined = "".join(names)
    if "/" in joined or "\0" in joined or not _NO_NAMES.isdisjoint(names):
        raise ValueError("a name is not the name of a folder entry")
    links, others, problem = document.get("links", {}), document.get("others", ()), document.get("problem")
    listing = Listing(
        document["folder"], tuple(files), tuple(document.get("folders", ())), links, tuple(others), problem
    )
    # Keys of an object are text, and `join` has refused all other names.
    if not isinstance(links, dict) or not all(isinstance(text, str) for text in (*others, problem or "")):
        raise TypeError("links, others or problem has another type")
    found = {name: None if entry is None else _fingerprint(*entry) for name, entry in files.items()}
    return SealedFolder(listing, found)


def _fingerprint(size: Any, sha256: Any, blocks: Any) -> Fingerprint:
    if type(size) is not int or not isinstance(sha256, str):
        raise TypeError("a size or a digest has another type")
    return Fingerprint(size, sha256, binascii.a2b_base64(blocks))


def _parsed(line: bytes) -> Any:
    try:
        return jiter.from_json(line)
    except ValueError:
        # The name of a file need not be text; such a name has characters that only this parser accepts.
        return json.loads(line)


def _check_of(before: str, payload: bytes) -> str:
    return hashlib.sha256(before.encode() + payload).hexdigest()[:_HEX]
