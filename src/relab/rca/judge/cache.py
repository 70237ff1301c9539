"""The store of the judge's answers, which keeps them between analyses."""

from __future__ import annotations

from typing import Protocol


class JudgeAnswerCache(Protocol):
    """Stores answers of the judge; `key` is the hash of a request."""

    def get(self, key: str) -> str | None:
        """Return the JSON answer to the request with the hash `key`; None if it is not stored."""
        ...

    def put(self, key: str, answer: str) -> None:
        """Store the JSON answer to the request with the hash `key`."""
        ...
