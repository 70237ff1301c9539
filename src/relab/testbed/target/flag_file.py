"""The flags of all workers in one file, which is replaced atomically and re-read by every worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from relab.core.atomic_files import replace_file
from relab.core.clock import Clock, SystemClock, format_time
from relab.core.errors import RelabError
from relab.core.file_locks import file_lock
from relab.core.json import JsonValue, parse_json
from relab.flags.models import ServiceFlags
from relab.testbed.target.errors import StaleFlagsError, StorageError


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
    """The flags file, and the flags that this worker last read from it.

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
        self.current = StoredFlags()

    def refresh(self) -> bool:
        """Read the file if it was replaced since the last read; return whether the flags have changed.

        Raises:
            RelabError: the file is invalid; the current flags stay in force.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            found, seen = StoredFlags(), None
        else:
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return False
            # Remember it before reading, so that an invalid file is reported only once.
            self._seen = seen
            found = _read(self._path)
        self._seen = seen
        changed = found != self.current
        self.current = found
        return changed

    def update(self, document: JsonValue, expected: int | None = None) -> StoredFlags:
        """Change some flags in the file, under a lock against other workers; return all flags after the change.

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
                before = _read(self._path) if self._path.exists() else StoredFlags()
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


def _read(path: Path) -> StoredFlags:
    document = parse_json(path.read_bytes())
    if not isinstance(document, dict):
        raise RelabError(f"{path.name} holds no JSON object")
    version, updated_at = document.pop("version", 0), document.pop("updated_at", None)
    if not isinstance(version, int) or not isinstance(updated_at, str | None):
        raise RelabError(f"{path.name} has no readable version")
    return StoredFlags(ServiceFlags().updated(document), version, updated_at)
