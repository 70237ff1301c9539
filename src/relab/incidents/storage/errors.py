"""Errors that the storage of incidents raises."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError
from relab.incidents.actions.policy import resume_command


class IncidentNotFoundError(NotFoundError):
    """No incident has this id."""

    code = "incident_not_found"

    def __init__(self, incident_id: str) -> None:
        super().__init__(f"There is no incident {incident_id[:200]!r}.", remedy="See: lab incidents list")


class IncidentOverError(ConflictError):
    """The incident is over: no further action, approval request or change of status is accepted."""

    code = "incident_over"

    def __init__(self, incident_id: str, how: str = "") -> None:
        said = f"The incident {incident_id} is over{f': {how}' if how else ''}."
        super().__init__(said, remedy="Trigger a new incident if needed.")


class IncidentStatusError(ConflictError):
    """A person decided about an incident with a certain status, but the incident has another status now."""

    code = "incident_status"

    def __init__(self, incident_id: str, status: str) -> None:
        super().__init__(
            f"The incident {incident_id} has the status {status} now.", remedy="See: lab incidents show; decide again."
        )


class PausedError(ConflictError):
    """The kill switch of the target, or of all targets, is on: the responder requests no actions."""

    code = "responder_paused"

    def __init__(self, target: str, *, is_alone: bool) -> None:
        """Describe the pause of a target; `is_alone` says whether only its own kill switch is on."""
        command = resume_command(target if is_alone else None)
        super().__init__(f"The responder of {target} is paused.", remedy=f"Resume it: {command}")


class ActionRejectedError(ConflictError):
    """A person has rejected the action: it is not requested again in this incident."""

    code = "action_rejected"

    def __init__(self, action: str, by: str) -> None:
        super().__init__(f"{action} was rejected by {by}.", remedy="Do it by hand if it is needed after all.")


class LeaseLostError(ConflictError):
    """Another process now runs the loop that polls the target: this process must request no more actions."""

    code = "responder_loop_lost"

    def __init__(self, target: str) -> None:
        super().__init__(f"Another process runs the loop of {target}.")


class ActionNotFoundError(NotFoundError):
    """No stored action has this idempotency key."""

    code = "act_not_found"

    def __init__(self, key: str) -> None:
        super().__init__(f"No action was requested with the key {key[:200]!r}.")


class ActionConflictError(ConflictError):
    """The idempotency key belongs to another action, or the action already has a different result."""

    code = "act_conflict"


class ApprovalNotFoundError(NotFoundError):
    """No approval request has this id."""

    code = "approval_not_found"

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"There is no approval request {approval_id[:200]!r}.", remedy="See: lab incidents list")


class InvalidIncidentCursorError(InvalidInputError):
    """The cursor does not have the form of a cursor of the list of incidents."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        super().__init__(
            "cursor is not valid.",
            problems=(("cursor", "is not a cursor of this list"),),
            remedy="Use `next_cursor` of the previous page, unchanged.",
        )


class BaselineTooLargeError(TooLargeError):
    """The baseline (usual values of a target) is too large and is not saved; the stored baseline is kept."""

    code = "baseline_too_large"
