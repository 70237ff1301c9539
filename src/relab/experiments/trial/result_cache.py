"""The result cache of a project: one file for each result, named by its key. Age and total size are limited."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from relab.core.atomic_files import replace_file, replacing
from relab.core.clock import LATEST_US, Clock, format_time
from relab.core.file_locks import file_lock
from relab.core.json import canonical_json
from relab.core.regular_files import open_regular_file
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import LAB
from relab.experiments.errors import ResultCacheUnusableError, StoredResultInvalidError
from relab.experiments.trial.bounded_folder import BoundedFolder
from relab.experiments.trial.stored_results import StoredHead, StoredResult, read_head

FOLDER: Final = "results"
"""The folder below the project's cache."""
_SALT: Final = "key"
_SALT_BYTES: Final = 32
_TAIL: Final = 8 + 32
"""The end of a file: when it was stored (microseconds since 1970, 8 bytes), and its keyed digest."""
_PIECE: Final = 1_048_576
_MB: Final = 1_048_576
_HOUR_US: Final = 3_600_000_000


def cache_folder(root: Path) -> Path:
    """Return the folder of the result cache of the project at `root`; it may not exist."""
    return root / LAB / "cache" / FOLDER


@dataclass(frozen=True)
class CacheEntry:
    """A stored result of a trial: one entry in a list of the result cache.

    `stored_us` and `used_us`, the times of storing and of the last use, are in microseconds since 1970.
    """

    path: Path
    head: StoredHead
    size_bytes: int
    stored_us: int
    used_us: int

    def to_json(self) -> dict[str, Any]:
        """Return the stored result as a JSON object, for a list of the cache."""
        ids = self.head.ids
        return {
            "trial": self.head.source,
            **{name: ids[name] for name in ("variant_id", "task_id", "repl_idx")},
            "outcome": self.head.outcome,
            "duration_ms": self.head.duration_ms,
            "cost_usd": self.head.cost_usd,
            "stored_at": format_time(self.stored_us),
            "used_at": format_time(self.used_us),
            "size_bytes": self.size_bytes,
            "path": str(self.path),
        }


class ResultCache:
    """The result cache of one project: stored results of trials. Several threads and processes may use it at once.

    Names and digests of entries are keyed (HMAC-SHA256, with a secret key in the folder), so that they reveal no
    secrets. Entries written or moved by other programs are rejected.

    Args:
        folder: where the files are; created with the first file.
        max_bytes: the largest size of all files; above it, the least recently used files are deleted.
        ttl_us: the largest age of a result, in microseconds.
        clock: the source of the current time; ages are computed with it.
    """

    def __init__(self, folder: Path, *, max_bytes: int, ttl_us: int, clock: Clock) -> None:
        self._folder = folder
        self._ttl_us = ttl_us
        self._clock = clock
        self._bound = BoundedFolder(folder, max_bytes)
        self._secret = b""

    def check(self) -> None:
        """Check that the cache can be used; create its folder and its secret key at the first use.

        Raises:
            ResultCacheUnusableError: the folder or the key cannot be read or written.
        """
        try:
            self._salt()
        except OSError as error:
            raise ResultCacheUnusableError(
                f"The result cache cannot be used: {error.filename2 or error.filename or self._folder}: {error.strerror or error}.",
                remedy=f"Make the folder {self._folder} writable, or delete it. A new run can also do without: --no-result-cache.",
            ) from error

    def key(self, document: Mapping[str, Any]) -> str:
        """Return the cache key of a trial, in hexadecimal: a keyed digest of `document`.

        `document` is the result of `ResultKeys.document` for the trial.

        Raises:
            OSError: the cache's secret key cannot be read or created.
        """
        return hmac.digest(self._salt(), canonical_json(document).encode("utf-8", "surrogatepass"), "sha256").hex()

    def path(self, key: str) -> Path:
        """Return the path of the file of the stored result with this key; the file may not exist."""
        return self._folder / key[:2] / key

    def find(self, key: str) -> StoredResult | None:
        """Return the stored result with this key, with its file open.

        Return None if the result is missing or too old, or if its file cannot be opened, for example because this
        process has too many open files.

        Raises:
            StoredResultInvalidError: the entry was changed or truncated, belongs to another key, is not a regular
                file, or reading it failed. The entry is deleted.
        """
        path = self.path(key)
        try:
            # A named pipe in the place of the entry would be waited for without end.
            file = open_regular_file(path, allow_pipe=False)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or path.is_file():
                # A regular file is not damaged only because it cannot be opened, such as with too many open files.
                return None
            self.reject(key)
            raise StoredResultInvalidError(f"it cannot be read: {error.strerror or error}") from error
        try:
            found = self._checked(file, key)
            if not 0 <= self._clock.now_us() - found[0] <= self._ttl_us:
                file.close()
                return None
            head = read_head(file)
        except (StoredResultInvalidError, OSError) as error:
            file.close()
            self.reject(key)
            reason = str(error) if isinstance(error, StoredResultInvalidError) else f"it cannot be read: {error}"
            raise StoredResultInvalidError(reason) from error
        with contextlib.suppress(OSError):
            # The file that was not used for longest is deleted first.
            os.utime(path)
        stored_us, digest, size = found
        return StoredResult(key, head, format_time(stored_us), digest.hex(), file, file.tell(), size - _TAIL)

    def put(self, key: str, captured: Path) -> bool:
        """Store the result in the file `captured` under a key; return False if this fails, as on a full disk.

        After a crash, either the whole entry exists, or no part of it.
        """
        path = self.path(key)
        try:
            salt = self._salt()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with replacing(path) as fresh:
                descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as target, captured.open("rb") as source:
                    shutil.copyfileobj(source, target, _PIECE)
                    stored = self._clock.now_us().to_bytes(8, "big")
                    target.write(stored)
                    target.flush()
                    size = target.tell()
                    with fresh.open("rb") as written:
                        target.write(_keyed_digest(salt, key, written, size))
        except OSError:
            return False
        self._bound.make_room(path, size + _TAIL - 8)
        return True

    def reject(self, key: str) -> None:
        """Delete the stored result with this key, because it is damaged."""
        with contextlib.suppress(OSError):
            self.path(key).unlink()

    def entries(self) -> Iterator[CacheEntry]:
        """Yield the stored results that can be read, the most recently used first."""
        for used_ns, size, name in sorted(self._bound.files(), reverse=True):
            with (
                contextlib.suppress(OSError, StoredResultInvalidError),
                open_regular_file(Path(name), allow_pipe=False) as file,
            ):
                head = read_head(file)
                file.seek(size - _TAIL)
                stored_us = int.from_bytes(file.read(8), "big")
                if stored_us >= LATEST_US:
                    # The file is cut, so that other bytes are in the place of the time.
                    continue
                yield CacheEntry(Path(name), head, size, stored_us, used_ns // 1_000)

    def remove(self, unused_since_us: int) -> int:
        """Delete the stored results that were not used since a time (in microseconds since 1970); return how many."""
        removed = 0
        for used_ns, _, name in self._bound.files():
            if used_ns // 1_000 <= unused_since_us:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                    removed += 1
        return removed

    def _salt(self) -> bytes:
        """Return the cache's secret key for digests; create the key in the folder at its first use."""
        if not self._secret:
            path = self._folder / _SALT
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_salt(path):
                made = secrets.token_bytes(_SALT_BYTES)
                with file_lock(path.with_name(f".{_SALT}.lock")):
                    # Another process may have replaced a missing or damaged key in the meantime, and use it already.
                    if not _is_salt(path):
                        replace_file(path, made, mode=0o600)
            self._secret = path.read_bytes()
        return self._secret

    def _checked(self, file: IO[bytes], key: str) -> tuple[int, bytes, int]:
        """Check the digest of a stored result; return `(time when it was stored, digest, size of the file in bytes)`.

        The time is in microseconds since 1970.

        Raises:
            StoredResultInvalidError: the entry is truncated, or its digest does not match.
        """
        size = os.fstat(file.fileno()).st_size
        if size <= _TAIL:
            raise StoredResultInvalidError("it is cut")
        expected = _keyed_digest(self._salt(), key, file, size - 32)
        file.seek(size - _TAIL)
        stored_us, digest = int.from_bytes(file.read(8), "big"), file.read(32)
        if not hmac.compare_digest(expected, digest):
            raise StoredResultInvalidError("its digest does not match its content")
        file.seek(0)
        return stored_us, digest, size


def result_cache_of(config: ExperimentConfig, root: Path, clock: Clock) -> ResultCache | None:
    """Return the result cache of a project for an experiment; None if the experiment uses none.

    Args:
        config: the experiment.
        root: the project's folder.
        clock: the source of the current time; ages are computed with it.
    """
    settings = config.runtime.result_cache
    if settings is None:
        return None
    return ResultCache(
        cache_folder(root),
        max_bytes=int(settings.max_mb * _MB),
        ttl_us=int(settings.ttl_hours * _HOUR_US),
        clock=clock,
    )


def whole_cache(root: Path, clock: Clock) -> ResultCache:
    """Return the result cache of the project at `root` without limits of age and size, to list or clear it."""
    return ResultCache(cache_folder(root), max_bytes=1 << 62, ttl_us=1 << 62, clock=clock)


def _is_salt(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == _SALT_BYTES


def _keyed_digest(salt: bytes, key: str, file: IO[bytes], size: int) -> bytes:
    made = hmac.new(salt, key.encode(), hashlib.sha256)
    file.seek(0)
    left = size
    while left and (piece := file.read(min(_PIECE, left))):
        left -= len(piece)
        made.update(piece)
    return made.digest()
