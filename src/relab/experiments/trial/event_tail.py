"""Read the events of a trial while its harness writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jiter

from relab.experiments.workspace.untrusted_files import open_plain

_MAX_READ_BYTES: Final = 64 * 1_048_576


@dataclass
class EventTail:
    """Reads the events that a harness has added to its events file since the last read.

    Attributes:
        path: the events file; it may not exist yet.
        below: the trial's folder; no link below it is followed.
    """

    path: Path
    below: Path
    _offset: int = 0
    _rest: bytes = field(default=b"", repr=False)
    _is_too_long: bool = False

    def read(self) -> list[dict[str, Any]] | None:
        """Return the events in the complete lines that were added to the events file since the last call.

        At most 64 MB are read per call. Return None if nothing was added, or if there is no readable file.

        Lines that are not JSON objects are left out. Lines of more than 64 MB may be left out, and lines of more than
        128 MB always are.
        """
        # `open_plain` refuses a link out of the trial's folder, and a pipe without a writer, which would block.
        file = open_plain(self.path, below=self.below)
        if file is None:
            return None
        with file:
            file.seek(self._offset)
            data = file.read(_MAX_READ_BYTES)
        if not data:
            return None
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._is_too_long:
            # The end of a line whose begin was dropped.
            del lines[0]
            self._is_too_long = False
        if len(self._rest) > _MAX_READ_BYTES:
            self._rest, self._is_too_long = b"", True
        return _events(lines)

    def finish(self) -> list[dict[str, Any]]:
        """Return the remaining events of the events file, including the event in a last line without a line end."""
        found: list[dict[str, Any]] = []
        while (more := self.read()) is not None:
            found += more
        rest, self._rest = self._rest, b""
        return found if self._is_too_long else found + _events([rest])


def _events(lines: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        try:
            event = jiter.from_json(line) if line.strip() else None
        except ValueError:
            continue
        if isinstance(event, dict):
            found.append(event)
    return found
