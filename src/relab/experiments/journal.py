"""The journal of a run: a line for each trial that has a result. It decides what `--continue` still has to do."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jiter
import pydantic_core

from relab.experiments.errors import RunChangedError

NAME: Final = "journal.jsonl"
_SYNC_EVERY_S = 1.0


class Journal:
    """Appends lines, each whole or not at all; used from several threads.

    A line is in the kernel's hands when `append` returns, so that it survives the death of this
    process; it is on the disk a second later, or when the journal is closed.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME
        self._lock = threading.Lock()
        self._file: io.FileIO | None = None
        self._end = 0
        self._synced = time.monotonic()

    def open(self) -> set[str]:
        """Begin to append; return the ids of the trials that have a line.

        A last line that a crash cut short is cut off: that trial has no result.

        Raises:
            RunChangedError: the journal holds something else.
        """
        done = set()
        whole = 0
        if self.path.exists():
            for entry, end in _entries(self.path):
                done.add(entry["row"]["trial_id"])
                whole = end
        # Without a buffer: what could not be written must not be written later, after something else.
        self._file = io.FileIO(self.path, "ab")
        self._file.truncate(whole)
        self._end = whole
        return done

    def append(self, entry: dict[str, Any]) -> None:
        """Note a finished trial.

        Raises:
            OSError: the disk is full.
        """
        line = _line(entry)
        with self._lock:
            assert self._file is not None
            try:
                written = 0
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                self._file.truncate(self._end)
                raise
            self._end += len(line)
            if time.monotonic() - self._synced >= _SYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        """Bring everything to the disk."""
        with self._lock:
            if self._file is not None:
                file, self._file = self._file, None
                with file:
                    os.fsync(file.fileno())


def _line(entry: dict[str, Any]) -> bytes:
    try:
        return pydantic_core.to_json(entry, inf_nan_mode="constants") + b"\n"
    except pydantic_core.PydanticSerializationError:
        # The name of a file, in a message, need not be UTF-8.
        return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def read_journal(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a run, each trial's once, in the order in which they ended.

    Raises:
        RunChangedError: the journal holds something else.
    """
    seen: set[str] = set()
    path = run_dir / NAME
    if not path.exists():
        return
    for entry, _ in _entries(path):
        trial_id = entry["row"]["trial_id"]
        if trial_id not in seen:
            seen.add(trial_id)
            yield entry


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                entry = jiter.from_json(line)
                if not isinstance(entry["row"]["trial_id"], str):
                    raise TypeError("trial_id is text")  # noqa: TRY301 told with the line, as all that is wrong with it
            except (ValueError, KeyError, TypeError) as error:
                raise RunChangedError(
                    f"{path}:{number} is no line of a journal: {error}.",
                    remedy="Was the file edited? A run whose journal is lost cannot be continued.",
                ) from error
            yield entry, end
