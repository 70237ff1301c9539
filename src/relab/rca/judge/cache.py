"""A cache of the judge's answers, which lasts longer than one analysis."""

from __future__ import annotations

from typing import Protocol


class JudgeAnswerCache(Protocol):
    """Stores answers of the judge (a language model). `key` is the hash of a request to the judge."""

    def get(self, key: str) -> str | None:
        """Return the stored answer (a JSON text) to a request; None if it is not stored. `key` is the hash of the request."""
        ...

    def put(self, key: str, answer: str) -> None:
        """Store the answer (a JSON text) to a request. `key` is the hash of the request."""
        ...
