"""What can be wrong with what people ask of the responder."""

from __future__ import annotations

from collections.abc import Sequence

from relab.core.errors import ConflictError, NotFoundError, UnavailableError


class NoTargetError(ConflictError):
    """Nothing is watched, so nothing can be wrong with it; or more than one target is, and none is named."""

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
    """No target is watched right now: a responder that starts, or takes over, has one soon. Send the alerts again."""

    code = "no_target_yet"

    def __init__(self) -> None:
        super().__init__(
            "Alerts came in, and no target is watched.",
            remedy="Start `lab serve --only incidents`, or `lab serve` with TARGET_API_BASE_URL set.",
        )


class NoQuestionError(NotFoundError):
    """Nobody was asked this, or the incident waits for no answer."""

    code = "no_question"
