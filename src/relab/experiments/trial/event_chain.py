"""The hash chain over the events of a trial: each line's digest covers all earlier lines.

The chain is computed while the harness writes, and again from the file when the trial has ended. If the two results
differ, the harness has changed events that it had written before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relab.experiments.workspace.untrusted_files import open_plain

NO_EVENTS: Final = "sha256:" + hashlib.sha256(b"").hexdigest()
"""The hash chain of a trial without events."""
_PIECE: Final = 65_536


class _Links:
    """Computes a hash chain over the lines of a file. The content of the file is given in pieces."""

    def __init__(self) -> None:
        self._head = NO_EVENTS
        # The digest of a line whose end was not read yet; a line may be longer than the memory.
        self._open: hashlib._Hash | None = None

    def feed(self, piece: bytes) -> None:
        *whole, rest = piece.split(b"\n")
        for line in whole:
            self._update(line)
            assert self._open is not None
            self._head, self._open = f"sha256:{self._open.hexdigest()}", None
        if rest:
            self._update(rest)

    @property
    def head(self) -> str:
        """The digest of the last line read from the events file, which covers all earlier lines.

        The line counts even if its line end is missing.
        """
        return self._head if self._open is None else f"sha256:{self._open.hexdigest()}"

    def _update(self, data: bytes) -> None:
        self._open = self._open or hashlib.sha256(self._head.encode())
        self._open.update(data)


def hash_chain(path: Path, *, below: Path) -> str:
    """Return the last digest of the hash chain over a trial's events; `NO_EVENTS` if there is no file.

    Args:
        path: the file of events.
        below: the trial's folder; no link below it is followed.
    """
    return _chain_of(path, below, None).head


@dataclass
class EventChain:
    """The hash chain over the events of a trial, computed while they are written.

    Attributes:
        path: the file of events; it may not exist yet.
        below: the trial's folder; no link below it is followed.
    """

    path: Path
    below: Path
    _offset: int = 0
    _links: _Links = field(default_factory=_Links, repr=False)

    def advance(self) -> None:
        """Continue the hash chain with the bytes that were appended to the events file since the last call."""
        file = open_plain(self.path, below=self.below)
        if file is None:
            return
        with file:
            file.seek(self._offset)
            while piece := file.read(_PIECE):
                self._offset += len(piece)
                self._links.feed(piece)

    def was_rewritten(self) -> bool:
        """Return whether the harness has changed bytes of the events file that `advance` had already read."""
        return bool(self._offset) and _chain_of(self.path, self.below, self._offset).head != self._links.head


def _chain_of(path: Path, below: Path, length: int | None) -> _Links:
    """Return the hash chain over the first `length` bytes of a file; None is all bytes. A missing file counts as empty.

    No link below the folder `below` is followed.
    """
    links = _Links()
    file = open_plain(path, below=below)
    if file is None:
        return links
    with file:
        left = length
        while piece := file.read(_PIECE if left is None else min(_PIECE, left)):
            links.feed(piece)
            left = None if left is None else left - len(piece)
    return links
