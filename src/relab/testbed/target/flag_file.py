"""The flags of all workers in one file: replaced whole by whoever changes them, noticed by everyone."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from relab.core.clock import Clock, SystemClock, format_time
from relab.core.errors import RelabError
from relab.core.json import JsonValue, parse_json
from relab.flags.models import ServiceFlags
from relab.testbed.target.errors import StorageError
from relab.testbed.target.files import replace_file


@dataclass(frozen=True, slots=True)
class StoredFlags:
    """Flags as they stand in the file; version 0 is the default, before anybody changed one."""

    flags: ServiceFlags = field(default_factory=ServiceFlags)
    version: int = 0
    updated_at: str | None = None

    def document(self) -> dict[str, JsonValue]:
        """Return what clients read."""
        return {
            **self.flags.model_dump(mode="json"),
            "version": self.version,
            "updated_at": self.updated_at,
        }


class FlagFile:
    """The file, and this worker's knowledge of it.

    Args:
        path: of the file; a lock lies beside it.
        clock: for the time of a change.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._seen: tuple[int, int, int] | None = None
        self.current = StoredFlags()

    def refresh(self) -> bool:
        """Read the file if it is another one than before; return whether the flags are others.

        Raises:
            RelabError: the file cannot be understood; what was in force stays so.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            found, seen = StoredFlags(), None
        else:
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return False
            # Noted first: a file that cannot be understood is told of once.
            self._seen = seen
            found = _read(self._path)
        self._seen = seen
        changed = found != self.current
        self.current = found
        return changed

    def update(self, document: JsonValue) -> StoredFlags:
        """Merge an update into the flags, also if another worker changes them at the same time; return the result.

        Raises:
            InvalidInputError: a field is unknown or refused; nothing is changed.
            StorageError: the file cannot be written; nothing is changed.
        """
        try:
            with self._locked():
                before = _read(self._path) if self._path.exists() else StoredFlags()
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
        descriptor = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path) -> StoredFlags:
    document = parse_json(path.read_bytes())
    if not isinstance(document, dict):
        raise RelabError(f"{path.name} holds no JSON object")
    version, updated_at = document.pop("version", 0), document.pop("updated_at", None)
    if not isinstance(version, int) or not isinstance(updated_at, str | None):
        raise RelabError(f"{path.name} has no readable version")
    return StoredFlags(ServiceFlags().updated(document), version, updated_at)
