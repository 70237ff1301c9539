"""What can go wrong with a testbed, each error named for the reaction that it wants."""

from __future__ import annotations

from relab.core.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError, UnavailableError


class StartError(UnavailableError):
    """A testbed does not become ready; nothing of it is left running.

    Attributes:
        component: which part is not ready, or None if none is to blame.
        log_tail: the end of that part's log.
    """

    def __init__(
        self, message: str, *, component: str | None = None, log_tail: str = "", remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.component = component
        self.log_tail = log_tail

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.log_tail}" if self.log_tail else super().__str__()


class NotRunningError(UnavailableError):
    """There is no supervisor of this name to talk to."""


class NotAnsweringError(UnavailableError):
    """A process is there and does not do what it was asked, in the time that this may take."""


class MissingProgramError(ConfigurationError):
    """A program that the testbed is made of is neither on the machine nor in a wheel."""


class WrongNameError(InvalidInputError):
    """A name, a port or a path that no testbed can have."""


class BusyError(ConflictError):
    """Another change of the whole testbed is under way, or another supervisor holds its folder."""


class UnknownComponentError(NotFoundError):
    """No component, group or link has this name."""


class UnknownVersionError(NotFoundError):
    """No version of the settings has this number."""


class StaleVersionError(ConflictError):
    """The settings have changed since the caller read them."""


class UnavailableLimitError(UnavailableError):
    """This machine cannot set such a limit (no control group that may be written)."""
