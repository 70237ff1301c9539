"""Read and change the flags of the target, which are stored in one file for all workers.

A change replaces the file atomically; each worker then reads the new file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relab.core.atomic_files import replace_file
from relab.core.clock import Clock, SystemClock, format_time
from relab.core.errors import RelabError
from relab.core.file_locks import file_lock
from relab.core.json import JsonValue, parse_json
from relab.flags.models import ServiceFlags
from relab.testbed.target.errors import StaleFlagsError, StorageError

_TICK_US: Final = 2_000_000
"""The longest tick of a file system's clock: FAT stores times in steps of two seconds."""


@dataclass(frozen=True, slots=True)
class StoredFlags:
    """The content of the flags file.

    Attributes:
        flags: the values of the flags.
        version: number of changes so far; 0 for the defaults.
        updated_at: time of the last change, RFC 3339; None for the defaults.
    """

    flags: ServiceFlags = field(default_factory=ServiceFlags)
    version: int = 0
    updated_at: str | None = None

    def document(self) -> dict[str, JsonValue]:
        """Return the flags as JSON, by section and name, with `version` and `updated_at`."""
        return {
            **self.flags.model_dump(mode="json"),
            "version": self.version,
            "updated_at": self.updated_at,
        }


class FlagFile:
    """Reads and changes the flags file, and keeps the flags that this worker last read.

    Args:
        path: the path of the file; the lock file is beside it.
        clock: the clock for the times of changes.

    Attributes:
        current: the flags that were last read; the defaults before the first read.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._seen: tuple[int, int, int] | None = None
        self._content: bytes | None = None
        self._is_settled = False
        self.current = StoredFlags()

    def refresh(self) -> bool:
        """Read the flags file if it may have changed since the last read; return whether the flags have changed.

        The file is read if its inode number, modification time or size has changed since the last read. It is also read
        if it was less than two seconds old at the last read: some file systems store times in steps of two seconds, so
        a second change in this time may leave all three values equal. If the file is absent, the defaults apply.

        Raises:
            RelabError: the file is invalid; the flags in `current` stay.
            OSError: the file cannot be read; the flags in `current` stay.
        """
        now_us = self._clock.now_us()
        try:
            status = self._path.stat()
        except FileNotFoundError:
            found, self._seen = StoredFlags(), None
        else:
            former = (self._seen, self._content)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen and self._is_settled:
                return False
            # Remember it before reading, so that an invalid file is reported only once.
            self._seen, self._content = seen, None
            self._is_settled = status.st_mtime_ns // 1_000 < now_us - _TICK_US
            self._content = self._path.read_bytes()
            if (seen, self._content) == former:
                return False
            found = _parsed(self._content, self._path.name)
        changed = found != self.current
        self.current = found
        return changed

    def update(self, document: JsonValue, expected: int | None = None) -> StoredFlags:
        """Change some flags in the file, while no other worker can change it; return all flags after the change.

        Args:
            document: new values of flags, by section and name; other flags are kept.
            expected: the required version of the current flags; None for any version.

        Raises:
            InvalidInputError: a field is unknown or invalid; nothing is changed.
            RelabError: the file is invalid; nothing is changed.
            StaleFlagsError: the flags have another version than `expected`; nothing is changed.
            StorageError: the file cannot be written; nothing is changed.
        """
        try:
            with self._locked():
                path = self._path
                before = _parsed(path.read_bytes(), path.name) if path.exists() else StoredFlags()
                if expected is not None and expected != before.version:
                    raise StaleFlagsError(expected, before.version)
                after = StoredFlags(
                    before.flags.updated(document), before.version + 1, format_time(self._clock.now_us())
                )
                replace_file(self._path, json.dumps(after.document(), indent=2).encode())
        except OSError as error:
            raise StorageError(f"flags: {error}") from error
        self.refresh()
        return after

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self._path.with_name(f"{self._path.name}.lock")):
            yield


def _parsed(content: bytes, name: str) -> StoredFlags:
    """Return the flags that the content of a flags file contains; `name` is the file's name, for error messages."""
    document = parse_json(content, name)
    if not isinstance(document, dict):
        raise RelabError(f"{name} holds no JSON object")
    version, updated_at = document.pop("version", 0), document.pop("updated_at", None)
    if not isinstance(version, int) or not isinstance(updated_at, str | None):
        raise RelabError(f"{name} has no readable version")
    return StoredFlags(ServiceFlags().updated(document), version, updated_at)
