"""Errors of requests to an action server. Each class names the responder's reaction to the error (`Reaction`)."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from relab.core.errors import ConflictError, ForbiddenError, RelabError, UnavailableError


class Reaction(StrEnum):
    """What the responder does after an error of the action server (the service that executes repairs)."""

    WAIT = "wait"
    """Nothing was done; retry the same action later."""
    DIAGNOSE_AGAIN = "diagnose_again"
    """Nothing was done; the service has changed since the last probe, so probe and diagnose it again."""
    ANOTHER_PLAN = "another_plan"
    """Nothing was done, and the server will not do this action; choose another plan."""
    STAND_DOWN = "stand_down"
    """Nothing was done; people have stopped everything."""
    ESCALATE = "escalate"
    """Nothing was done; a person must change something first."""
    ASK_AGAIN = "ask_again"
    """It is unknown whether the action was done: retry with the same key, and with no other."""


class ActionServerError(RelabError):
    """The action server did not fulfil a request.

    Attributes:
        reaction: the responder's reaction to this error.
        server_code: the `code` of the problem document that the server sent; None if it sent none.
    """

    reaction: ClassVar[Reaction] = Reaction.ESCALATE

    def __init__(self, message: str, *, remedy: str | None = None, server_code: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.server_code = server_code


class DeniedError(ActionServerError, ForbiddenError):
    """The token is missing or not valid for the action server, or does not allow the request."""

    code = "action_denied"
    reaction = Reaction.ESCALATE


class RefusedError(ActionServerError, ConflictError):
    """The action server refuses an action that does not fit the service's present state or the server's catalogue."""

    code = "action_refused"
    reaction = Reaction.ANOTHER_PLAN


class StateChangedError(ActionServerError, ConflictError):
    """The state of the service has changed since the responder decided on the action."""

    code = "action_state_changed"
    reaction = Reaction.DIAGNOSE_AGAIN


class ActionServerBusyError(ActionServerError, UnavailableError):
    """The action server is busy: another action is in progress, or there were too many requests.

    Attributes:
        retry_after_s: the seconds to wait before a retry, from `Retry-After` (limited) or a default.
    """

    code = "action_server_busy"
    reaction = Reaction.WAIT

    def __init__(self, message: str, *, retry_after_s: float, server_code: str | None = None) -> None:
        super().__init__(message, server_code=server_code)
        self.retry_after_s = retry_after_s


class ActionServerStoppedError(ActionServerError, UnavailableError):
    """The kill switch of the action server is on, so the server rejects all actions that change anything."""

    code = "action_server_stopped"
    reaction = Reaction.STAND_DOWN


class UnreachableError(ActionServerError, UnavailableError):
    """The action server cannot be reached, or it cannot reach a component of the target; no action began."""

    code = "action_server_unreachable"
    reaction = Reaction.WAIT


class UnreadableError(ActionServerError, UnavailableError):
    """The answer of the action server is too long, not JSON, or not an answer to the request."""

    code = "action_server_unreadable"
    reaction = Reaction.WAIT


class OutcomeUnknownError(ActionServerError, UnavailableError):
    """The action was requested, and it is unknown whether it was done."""

    code = "action_outcome_unknown"
    reaction = Reaction.ASK_AGAIN
