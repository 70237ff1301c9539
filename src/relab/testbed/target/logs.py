"""Write the log of a worker: JSON lines, at most `LINES_PER_SECOND` with the same event name in one second."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final, Literal

from relab.core.clock import Clock, SystemClock
from relab.testbed.target.log_files import LogFiles, log_time

Level = Literal["debug", "info", "warning", "error", "critical"]

LINES_PER_SECOND: Final = 100
"""Maximum number of lines that one event may write in a second. The number of suppressed lines is written at the first
line of a later second."""


class Logger:
    """The log of one worker. Thread-safe.

    Args:
        files: writes the lines to files.
        worker: the worker's number, which is in each line.
        clock: the clock for the time of each line.
    """

    def __init__(self, files: LogFiles, *, worker: int, clock: Clock | None = None) -> None:
        self._files = files
        self._worker = worker
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._second = 0
        self._written: dict[str, int] = {}

    @property
    def lost(self) -> int:
        """Number of lines that could not be written."""
        return self._files.lost

    def log(self, level: Level, event: str, message: str, *, route: str | None = None, **fields: Any) -> None:
        """Write one line to the worker's log.

        If `LINES_PER_SECOND` lines with this event name have been written in this second, drop the line. The number of
        dropped lines is logged in a later second.

        Args:
            level: the severity of the event.
            event: name of the event, for programs.
            message: one sentence for people.
            route: the route of the request in question; None without a request.
            fields: further values of the line.
        """
        with self._lock:
            # Read the time under the lock, so that a worker's lines are in the order of their times.
            now_us = self._clock.now_us()
            line = {
                "time": log_time(now_us),
                "level": level,
                "event": event,
                "message": message,
                "route": route,
                "worker": self._worker,
                "fields": fields,
            }
            if now_us // 1_000_000 != self._second:
                self._log_suppressed(line["time"])
                self._second, self._written = now_us // 1_000_000, {}
            self._written[event] = self._written.get(event, 0) + 1
            if self._written[event] <= LINES_PER_SECOND:
                self._files.write(line)

    def close(self) -> None:
        """Close the worker's current log file."""
        self._files.close()

    def _log_suppressed(self, time: Any) -> None:
        for event, count in self._written.items():
            if count > LINES_PER_SECOND:
                suppressed = count - LINES_PER_SECOND
                self._files.write(
                    {
                        "time": time,
                        "level": "warning",
                        "event": "log_lines_suppressed",
                        "message": f"{suppressed} more lines of {event} within one second",
                        "route": None,
                        "worker": self._worker,
                        "fields": {"of": event, "count": suppressed},
                    }
                )


class LibraryHandler(logging.Handler):
    """Forwards warnings and errors of libraries to the worker's log."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._own = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write a library's log record to the worker's log.

        An exception is written as type and message, without traceback. If the record's arguments do not fit its
        message, they are written after the unformatted message.
        """
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # The library's mistake must not become an error of the request in which it logs.
            message = f"{record.msg} {record.args}"
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._own.log(level, "library_log", message, **fields)
