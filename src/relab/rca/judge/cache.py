"""Where the answers of the judge are stored between analyses."""

from __future__ import annotations

from typing import Protocol


class JudgeAnswerCache(Protocol):
    """Stores answers by the hash of their request."""

    def get(self, key: str) -> str | None:
        """Return the JSON of the answer to a request; None if it is not stored."""
        ...

    def put(self, key: str, answer: str) -> None:
        """Store the JSON of the answer to a request."""
        ...
