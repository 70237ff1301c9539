"""Errors of what the responder remembers, by the reaction that they want."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError


class IncidentNotFoundError(NotFoundError):
    """There is no such incident."""

    code = "incident_not_found"

    def __init__(self, incident_id: str) -> None:
        super().__init__(f"There is no incident {incident_id[:200]!r}.", remedy="See: lab incidents list")


class IncidentOverError(ConflictError):
    """The incident is over: nothing is to be done for it any more."""

    code = "incident_over"

    def __init__(self, incident_id: str) -> None:
        super().__init__(f"The incident {incident_id} is over.", remedy="Trigger a new one if there is need.")


class PausedError(ConflictError):
    """The kill switch is on: nothing is asked for."""

    code = "responder_paused"

    def __init__(self, target: str) -> None:
        super().__init__(f"The responder of {target} is paused.", remedy="Somebody resumes it: lab incidents resume")


class RejectedError(ConflictError):
    """A person has said no: it is not asked for in this incident any more."""

    code = "action_rejected"

    def __init__(self, action: str, by: str) -> None:
        super().__init__(f"{action} was rejected by {by}.", remedy="Do it by hand if it is to be done after all.")


class LoopLostError(ConflictError):
    """Another process runs the loop of the target by now: this one does nothing any more."""

    code = "responder_loop_lost"

    def __init__(self, target: str) -> None:
        super().__init__(f"Another process runs the loop of {target}.")


class ActNotFoundError(NotFoundError):
    """Nothing was ever asked for with this key."""

    code = "act_not_found"

    def __init__(self, key: str) -> None:
        super().__init__(f"Nothing was asked for with the key {key[:200]!r}.")


class ActConflictError(ConflictError):
    """The key belongs to another act, or what came of the act is known and different."""

    code = "act_conflict"


class ApprovalNotFoundError(NotFoundError):
    """Nobody was asked this."""

    code = "approval_not_found"

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"There is no question {approval_id[:200]!r}.", remedy="See: lab incidents list")


class InvalidIncidentCursorError(InvalidInputError):
    """The cursor is not one that the list of incidents gave out."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        super().__init__(
            "cursor is not valid.",
            problems=(("cursor", "is not a cursor of this list"),),
            remedy="Use `next_cursor` of the page before, unchanged.",
        )


class BaselineTooLargeError(TooLargeError):
    """A baseline of so many signals is not kept; the one from before is."""

    code = "baseline_too_large"
