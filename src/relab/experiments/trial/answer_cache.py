"""Cache answers of language models on disk, one file for each answer. Age and total size are limited."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jiter
import pydantic_core

from relab.core.atomic_files import replace_file
from relab.core.clock import Clock
from relab.core.regular_files import open_regular_file
from relab.experiments.trial.bounded_folder import BoundedFolder

FOLDER: Final = "model_answers"
"""The folder below the project's cache."""
FORMAT: Final = "model_answer_v1"
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True)
class CachedAnswer:
    """A model's answer: its content type, and the pieces in which its body arrived, to replay a stream."""

    content_type: str
    pieces: Sequence[bytes]

    @property
    def body(self) -> bytes:
        """The whole body of the model's answer."""
        return b"".join(self.pieces)


class AnswerCache:
    """Caches the answers of language models in a project's folder; several threads and processes may use it at once.

    A file has the key (a digest), the content type and the body of an answer, but no request and no headers.

    Args:
        folder: where the files are; created with the first file.
        ttl_s: the greatest age of an answer, in seconds.
        max_bytes: the greatest size of all files; above it, the least recently used files are deleted.
        clock: the source of the current time; ages are computed with it.
    """

    def __init__(self, folder: Path, *, ttl_s: float, max_bytes: int, clock: Clock) -> None:
        self._folder = folder
        self._ttl_us = int(ttl_s * _SECOND_US)
        self._max_bytes = max_bytes
        self._clock = clock
        self._bound = BoundedFolder(folder, max_bytes)

    def get(self, key: str) -> CachedAnswer | None:
        """Return the cached answer of a model with this key; None if it is missing, too old, damaged or unreadable.

        The file of an old or damaged answer is deleted. An answer with a time in the future counts as too old.
        """
        path = self._path(key)
        try:
            # A named pipe in the place of the answer would be waited for without end.
            with open_regular_file(path, allow_pipe=False) as file:
                raw = file.read()
        except OSError:
            return None
        answer = self._read(raw, key)
        if answer is None:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            # The file that was not used for longest is deleted first.
            os.utime(path)
        return answer

    def put(self, key: str, answer: CachedAnswer) -> bool:
        """Store a model's answer; return False if it is too large, or cannot be written, such as on a full disk."""
        head = {
            "format": FORMAT,
            "key": key,
            "content_type": answer.content_type,
            "created_us": self._clock.now_us(),
            "sizes": [len(piece) for piece in answer.pieces],
            "sha256": hashlib.sha256(answer.body).hexdigest(),
        }
        raw = pydantic_core.to_json(head) + b"\n" + answer.body
        if len(raw) > self._max_bytes:
            return False
        path = self._path(key)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, raw, mode=0o600)
        except OSError:
            return False
        self._bound.make_room(path, len(raw))
        return True

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _read(self, raw: bytes, key: str) -> CachedAnswer | None:
        line, _, body = raw.partition(b"\n")
        try:
            head = jiter.from_json(line)
            created, sizes = head["created_us"], head["sizes"]
            is_whole = (head["format"], head["key"]) == (FORMAT, key) and sum(sizes) == len(body)
            if not is_whole or hashlib.sha256(body).hexdigest() != head["sha256"]:
                return None
            content_type = str(head["content_type"])
            age_us = self._clock.now_us() - created
        except (ValueError, KeyError, TypeError):
            return None
        # An answer from the future was stored before the clock was set back; its age is unknown.
        if not 0 <= age_us <= self._ttl_us:
            return None
        pieces, at = [], 0
        for size in sizes:
            pieces.append(body[at : at + size])
            at += size
        return CachedAnswer(content_type, pieces)
