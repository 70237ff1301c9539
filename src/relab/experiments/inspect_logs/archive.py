"""Read and write the archives of Inspect's logs: zip files with stored, deflated or Zstandard-compressed entries.

Python's `zipfile` can decompress Zstandard only from Python 3.14 on, so it reads only the directory of an archive. This
module decompresses the entries itself, each up to a limit, so that an archive cannot fill the memory.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import jiter
import zstandard

from relab.experiments.inspect_logs.errors import (
    InspectLogError,
    InspectLogTooLargeError,
    InspectLogTruncatedError,
    InspectLogUnsafeError,
    refused,
)

MAX_ENTRY_BYTES: Final = 128 * 1_048_576
"""The largest decompressed size of one entry, which is one sample; its values take several times as much memory."""
MAX_ENTRIES: Final = 200_000
MAX_RATIO: Final = 500
"""The largest ratio of decompressed to compressed size of a whole archive above `MAX_ENTRY_BYTES`.

The logs of Inspect that were measured have ratios of 7 to 20; deflate reaches 1,030.
"""

_STORED: Final = 0
_DEFLATED: Final = 8
_ZSTANDARD: Final = 93
_MAX_WINDOW_BYTES: Final = 128 * 1_048_576
_ENCRYPTED: Final = 0x1
_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_MAGIC: Final = b"PK\x03\x04"


class LogArchive:
    """An open `.eval` file. If an entry's name occurs twice, the last one counts, as in Inspect.

    Args:
        path: the file.
        max_entry_bytes: the largest decompressed size of an entry.

    Raises:
        InspectLogError: the file is missing or is not a log archive.
    """

    def __init__(self, path: Path, max_entry_bytes: int = MAX_ENTRY_BYTES) -> None:
        self.path = path
        self._max_entry_bytes = max_entry_bytes
        self._file = _open(path)
        try:
            self._entries = self._directory()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def names(self) -> list[str]:
        """The names of the log archive's entries, in the order of the archive, without repetitions."""
        return list(self._entries)

    def read(self, name: str) -> bytes:
        """Return the content of an entry of the log archive, after checking its size and its checksum.

        Raises:
            InspectLogError: the entry is missing, too large, damaged, or compressed with an unknown method.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise refused(InspectLogError, self.path, f"has no entry {name!r}")
        if entry.file_size > self._max_entry_bytes:
            raise self._too_large(name, entry.file_size)
        try:
            content = _unpacked(self._compressed(entry), entry.compress_type, self._max_entry_bytes)
        except (zlib.error, zstandard.ZstdError, EOFError, OSError) as error:
            raise refused(
                InspectLogError, self.path, f"is damaged: the entry {name!r} cannot be read: {error}"
            ) from error
        if len(content) > self._max_entry_bytes:
            raise self._too_large(name, len(content))
        if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
            raise refused(InspectLogError, self.path, f"is damaged: the checksum of the entry {name!r} does not match")
        return content

    def read_json(self, name: str) -> Any:
        """Return the value of a JSON entry of the log archive; NaN and infinities, which Inspect writes, become floats.

        Raises:
            InspectLogError: the entry cannot be read, or is not JSON.
        """
        try:
            return jiter.from_json(self.read(name), allow_inf_nan=True)
        except ValueError as error:
            raise refused(
                InspectLogError, self.path, f"has an entry {name!r} that is not valid JSON: {error}"
            ) from error

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self._file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, ValueError, OSError) as error:
            raise self._no_directory() from error
        if len(entries) > MAX_ENTRIES:
            raise refused(InspectLogTooLargeError, self.path, f"has more than {MAX_ENTRIES:,} entries")
        for entry in entries:
            self._check(entry)
        total = sum(entry.file_size for entry in entries)
        compressed = max(self._file.seek(0, io.SEEK_END), 1)
        if total > self._max_entry_bytes and total > MAX_RATIO * compressed:
            raise refused(
                InspectLogTooLargeError,
                self.path,
                f"has {compressed:,} bytes that expand to {total:,}; a ratio above {MAX_RATIO:,} is not one of a log",
                remedy="If you trust it, raise the limit with --max-entry-mb.",
            )
        return {entry.filename: entry for entry in entries}

    def _no_directory(self) -> InspectLogError:
        try:
            self._file.seek(0)
            start = self._file.read(4)
        except OSError as error:
            return refused(InspectLogError, self.path, f"cannot be read: {error.strerror}")
        if start == _MAGIC:
            return refused(
                InspectLogTruncatedError,
                self.path,
                "is incomplete: the archive has no directory of its entries, which is written last",
                remedy="The process that wrote it was killed while it wrote; recover the log with Inspect, or run it again.",
            )
        remedy = "Convert it first: inspect log convert --to eval." if start.lstrip()[:1] == b"{" else None
        return refused(InspectLogError, self.path, "is not a zip archive, which .eval logs are", remedy=remedy)

    def _check(self, entry: zipfile.ZipInfo) -> None:
        name = entry.orig_filename
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise refused(
                InspectLogUnsafeError, self.path, f"has an entry whose name leaves the archive: {name[:200]!r}"
            )
        if entry.flag_bits & _ENCRYPTED:
            raise refused(InspectLogUnsafeError, self.path, f"has an encrypted entry: {name[:200]!r}")

    def _compressed(self, entry: zipfile.ZipInfo) -> bytes:
        # Without the first bytes of the file, the directory leads to a place before its beginning.
        if entry.header_offset < 0:
            raise EOFError("its header is missing")
        self._file.seek(entry.header_offset)
        head = self._file.read(_LOCAL_HEADER.size)
        if len(head) < _LOCAL_HEADER.size or head[:4] != _MAGIC:
            raise EOFError("its header is missing")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(head)
        self._file.seek(name_length + extra_length, io.SEEK_CUR)
        # An entry cannot be longer than its file: a false size makes the read short and allocates nothing.
        content = self._file.read(min(entry.compress_size, self.path.stat().st_size))
        if len(content) < entry.compress_size:
            raise EOFError("it is shorter than its size")
        return content

    def _too_large(self, name: str, size: int) -> InspectLogError:
        return refused(
            InspectLogTooLargeError,
            self.path,
            f"has an entry {name!r} of at least {size:,} bytes; the limit is {self._max_entry_bytes:,}",
            remedy="Raise the limit with --max-entry-mb.",
        )


def write_archive(path: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive of `(name, content)` entries, with a compression that every version of Inspect reads (deflate).

    Raises:
        OSError: the file cannot be written, for example on a full disk.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def _open(path: Path) -> BinaryIO:
    if not path.is_file():
        raise refused(InspectLogError, path, "is not a file" if path.exists() else "does not exist")
    try:
        return path.open("rb")
    except OSError as error:
        raise refused(InspectLogError, path, f"cannot be read: {error.strerror}") from error


def _unpacked(content: bytes, method: int, limit: int) -> bytes:
    """Return the decompressed content of an entry.

    At most `limit` + 1 bytes are decompressed; the additional byte shows the caller that the content is too large.
    `method` is the number of the compression method in the zip format.

    Raises:
        EOFError: the compression method is unknown; `read` reports it as it reports a damaged entry.
    """
    if method == _STORED:
        return content
    if method == _DEFLATED:
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        return inflating.decompress(content, limit + 1)
    if method == _ZSTANDARD:
        # Inspect writes large entries as several frames.
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        with decompressor.stream_reader(content, read_across_frames=True) as reader:
            return reader.read(limit + 1)
    raise EOFError(f"its compression method {method} is unknown")
