"""What may go wrong between the responder and an action server, by the reaction that it wants."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from relab.core.errors import ConflictError, ForbiddenError, RelabError, UnavailableError


class Reaction(StrEnum):
    """What a responder does about it."""

    WAIT = "wait"
    """Nothing was done; the same may be asked for later."""
    LOOK_AGAIN = "look_again"
    """Nothing was done; the service is not as it was seen."""
    ANOTHER_PLAN = "another_plan"
    """Nothing was done, and this action will not be."""
    STAND_DOWN = "stand_down"
    """Nothing was done; people have stopped everything."""
    ESCALATE = "escalate"
    """Nothing was done; a person must change something first."""
    ASK_AGAIN = "ask_again"
    """Nobody knows whether it was done: ask again with the same key, and with no other."""


class ActionServerError(RelabError):
    """The action server did not do what it was asked.

    Attributes:
        reaction: what a responder does about it.
        server_code: the code of the server's problem document, if it sent one.
    """

    reaction: ClassVar[Reaction] = Reaction.ESCALATE

    def __init__(self, message: str, *, remedy: str | None = None, server_code: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.server_code = server_code


class DeniedError(ActionServerError, ForbiddenError):
    """The token is not known, or does not allow this."""

    code = "action_denied"
    reaction = Reaction.ESCALATE


class RefusedError(ActionServerError, ConflictError):
    """The server will not do this: it makes no sense in the state of the service, or is not as the catalogue wants it."""

    code = "action_refused"
    reaction = Reaction.ANOTHER_PLAN


class StateChangedError(ActionServerError, ConflictError):
    """The state in which this was decided is over."""

    code = "action_state_changed"
    reaction = Reaction.LOOK_AGAIN


class BusyError(ActionServerError, UnavailableError):
    """Not now: another action is at work, or there were too many.

    Attributes:
        retry_after_s: when it may be asked for again, as the server says, within bounds.
    """

    code = "action_server_busy"
    reaction = Reaction.WAIT

    def __init__(self, message: str, *, retry_after_s: float, server_code: str | None = None) -> None:
        super().__init__(message, server_code=server_code)
        self.retry_after_s = retry_after_s


class StoppedError(ActionServerError, UnavailableError):
    """The kill switch of the action server is on."""

    code = "action_server_stopped"
    reaction = Reaction.STAND_DOWN


class UnreachableError(ActionServerError, UnavailableError):
    """The server did not answer, and nothing was done."""

    code = "action_server_unreachable"
    reaction = Reaction.WAIT


class UnreadableError(ActionServerError, UnavailableError):
    """The server answered what nobody can read: too long, no JSON, or not what was asked for."""

    code = "action_server_unreadable"
    reaction = Reaction.WAIT


class OutcomeUnknownError(ActionServerError, UnavailableError):
    """It was asked for, and nobody knows whether it was done."""

    code = "action_outcome_unknown"
    reaction = Reaction.ASK_AGAIN
