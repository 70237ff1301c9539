"""The audit log: a line before an action acts and one when it is over, on the disk before the caller hears of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jiter
import pydantic_core

from relab.core.clock import parse_time
from relab.testbed.actions.models import Record, Status, UnknownRecordError

_EPISODE: Final = "episode_began_at"
_SWITCH: Final = "kill_switch"


class AuditLog:
    """All records, in memory and in a file that only grows. Used from several threads.

    A reset of the testbed begins an episode: the file keeps what was before, and here nothing is known of it.
    A record that has a begin and no end belongs to a server that was ended meanwhile: it is `interrupted`, because
    nobody knows how far the action came.

    Args:
        path: JSON Lines; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._is_stopped = False
        for document in _lines(path):
            if _EPISODE in document:
                self._forget()
            elif _SWITCH in document:
                self._is_stopped = document[_SWITCH] is True
            else:
                self._note(_record(document))
        # What a crash has cut short stays as it is, and the next line begins a line of its own.
        is_cut = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if is_cut:
            os.write(self._file, b"\n")
        for record in self._records.values():
            if record.status is Status.STARTED:
                record.status = Status.INTERRUPTED
                self.write(record)

    def write(self, record: Record) -> None:
        """Write a record as it is now; it is on the disk when this returns.

        Raises:
            OSError: there is no room. Then the action must not be done.
        """
        line = pydantic_core.to_json(record.to_json()) + b"\n"
        with self._lock:
            self._append(line)
            # One that began in an episode that is over is none of this one.
            if record.status is Status.STARTED or record.record_id in self._records:
                self._note(record)

    @property
    def is_stopped(self) -> bool:
        """Whether the kill switch is on; a restart of the server does not lift it."""
        return self._is_stopped

    def switch(self, *, stopped: bool, by: str, at: str) -> None:
        """Turn the kill switch.

        Args:
            stopped: whether nothing may be done from now on.
            by: who turns it.
            at: when, RFC 3339.

        Raises:
            OSError: there is no room to write it down; to stop holds all the same, for as long as the server runs.
        """
        with self._lock:
            if stopped:
                self._is_stopped = True
            self._append(pydantic_core.to_json({_SWITCH: stopped, "by": by, "at": at}) + b"\n")
            self._is_stopped = stopped

    def begin_episode(self, at: str) -> None:
        """Keep what was in the file, and know nothing of it from now on.

        Args:
            at: when, RFC 3339.

        Raises:
            OSError: there is no room.
        """
        with self._lock:
            self._append(pydantic_core.to_json({_EPISODE: at}) + b"\n")
            self._forget()

    def get(self, record_id: str) -> Record:
        """Return a record.

        Raises:
            UnknownRecordError: there is none with this id.
        """
        try:
            return self._records[record_id]
        except KeyError as error:
            raise UnknownRecordError(f"There is no action with the id {record_id[:100]!r}.") from error

    def by_key(self, actor: str, key: str) -> Record | None:
        """Return what this actor has asked for with this key."""
        found = self._by_key.get((actor, key))
        return None if found is None else self._records[found]

    def newest(self, limit: int) -> list[Record]:
        """Return the last records, newest first."""
        return list(reversed(self._records.values()))[:limit]

    def since(self, at_us: int) -> Iterator[Record]:
        """Yield the records that were asked for at this time or later, newest first."""
        for record in reversed(self._records.values()):
            if parse_time(record.requested_at) < at_us:
                return
            yield record

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, line: bytes) -> None:
        done = 0
        while done < len(line):
            done += os.write(self._file, line[done:])
        os.fsync(self._file)

    def _forget(self) -> None:
        self._records = {}
        self._by_key = {}
        self._is_stopped = False

    def _note(self, record: Record) -> None:
        self._records[record.record_id] = record
        if record.key is not None:
            self._by_key[record.actor, record.key] = record.record_id


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    for line in raw.split(b"\n"):
        try:
            document = jiter.from_json(line)
        except ValueError:
            # A crash has cut it short: whatever it was about had not begun, or is told as interrupted.
            continue
        if isinstance(document, dict):
            yield document


def _record(document: dict[str, Any]) -> Record:
    return Record(**{**document, "status": Status(document["status"])})
