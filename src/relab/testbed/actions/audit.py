"""The audit log of actions: one line before an action starts and one after it ends.

Both lines are on disk before the caller gets an answer.
"""

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
    """The records of actions, in memory and in an append-only file. Thread-safe.

    Each reset of the testbed begins an episode (one test of a responder). Only the records of the current episode are
    kept in memory.

    Args:
        path: the path of the file, in JSON Lines; the file is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._is_stopped = False
        for document in _lines(path):
            if _EPISODE in document:
                self._delete_records()
            elif _SWITCH in document:
                self._is_stopped = document[_SWITCH] is True
            else:
                self._note(Record.from_json(document))
        # A line that a crash cut short stays as it is; the next record must begin on a new line.
        self._is_cut = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for record in self._records.values():
            # The server was stopped while the action ran, so it is unknown how far the action got.
            if record.status is Status.STARTED:
                record.status = Status.INTERRUPTED
                self.write(record)

    def write(self, record: Record) -> None:
        """Append the current state of an action's record to the audit file; the line is on disk when this returns.

        Raises:
            OSError: the record cannot be written, for example because the disk is full. If the action has not started,
                the caller must not start it.
        """
        line = pydantic_core.to_json(record.to_json()) + b"\n"
        with self._lock:
            self._append(line)
            # A record that began in an earlier episode must not enter the current one.
            if record.status is Status.STARTED or record.record_id in self._records:
                self._note(record)

    @property
    def is_stopped(self) -> bool:
        """Whether the kill switch is on; while it is on, the server rejects all actions that change anything.

        A restart of the server does not change the switch. The start of an episode turns it off.
        """
        return self._is_stopped

    def switch(self, *, stopped: bool, by: str, at: str) -> None:
        """Turn the kill switch on or off; while it is on, all actions that change anything are rejected.

        Args:
            stopped: True to turn the kill switch on, False to turn it off.
            by: name of the caller's token.
            at: the current time, RFC 3339.

        Raises:
            OSError: the change cannot be written to the audit file. If `stopped` is False, the switch does not change.
                If `stopped` is True, the switch is on, but only until the server stops.
        """
        with self._lock:
            if stopped:
                self._is_stopped = True
            self._append(pydantic_core.to_json({_SWITCH: stopped, "by": by, "at": at}) + b"\n")
            self._is_stopped = stopped

    def begin_episode(self, at: str) -> None:
        """Begin an episode (one test of a responder): drop earlier records from memory, and turn the kill switch off.

        The audit file keeps the earlier records.

        Args:
            at: the current time, RFC 3339.

        Raises:
            OSError: the start of the episode cannot be recorded.
        """
        with self._lock:
            self._append(pydantic_core.to_json({_EPISODE: at}) + b"\n")
            self._delete_records()

    def get(self, record_id: str) -> Record:
        """Return the record with this id; only records of the current episode are found.

        Raises:
            UnknownRecordError: no record of the current episode has this id.
        """
        try:
            return self._records[record_id]
        except KeyError as error:
            raise UnknownRecordError(f"There is no action with the id {record_id[:100]!r}.") from error

    def by_key(self, actor: str, key: str) -> Record | None:
        """Return the record of the request that this caller (`actor`) sent with this idempotency key (`key`).

        Return None if there is no such request in the current episode.
        """
        found = self._by_key.get((actor, key))
        return None if found is None else self._records[found]

    def newest(self, limit: int) -> list[Record]:
        """Return at most `limit` records of the actions since the last reset of the testbed, newest first."""
        return list(reversed(self._records.values()))[:limit]

    def since(self, at_us: int) -> Iterator[Record]:
        """Yield the records of the actions of the current episode that were requested at `at_us` or later, newest first.

        Args:
            at_us: the time, in microseconds since 1970.
        """
        # A copy, because another thread may add a record meanwhile.
        for record in reversed(list(self._records.values())):
            if parse_time(record.requested_at) < at_us:
                return
            yield record

    def close(self) -> None:
        """Close the audit file."""
        os.close(self._file)

    def _append(self, line: bytes) -> None:
        if self._is_cut:
            line = b"\n" + line
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        finally:
            # After a failed write the file may end within a line; the next record must begin on a new line.
            if done:
                self._is_cut = done < len(line)
        os.fsync(self._file)

    def _delete_records(self) -> None:
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
            # A crash cut the line short: its action had not begun, or its start on an earlier line makes it
            # `interrupted`.
            continue
        if isinstance(document, dict):
            yield document
