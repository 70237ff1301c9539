"""Errors that the incident service raises for requests it cannot fulfil."""

from __future__ import annotations

from collections.abc import Sequence

from relab.core.errors import ConflictError, NotFoundError, UnavailableError


class NoTargetError(ConflictError):
    """No target is watched, or several targets are watched and the request does not name one."""

    code = "no_target"

    def __init__(self, watched: Sequence[str] = ()) -> None:
        if watched:
            super().__init__(f"More than one target is watched: {', '.join(watched)}.", remedy="Name one of them.")
        else:
            super().__init__(
                "No target is watched.",
                remedy="Start `lab serve --only incidents`, or `lab serve` with TARGET_API_BASE_URL set.",
            )


class NoTargetYetError(UnavailableError):
    """Alerts were received, but no target is watched yet. The sender of the alerts should retry them later."""

    code = "no_target_yet"

    def __init__(self) -> None:
        super().__init__(
            "Alerts were received, but no target is watched.",
            remedy="Start `lab serve --only incidents`, or `lab serve` with TARGET_API_BASE_URL set.",
        )


class NoQuestionError(NotFoundError):
    """No approval request has this id, and no incident with this id has an approval request."""

    code = "no_question"
