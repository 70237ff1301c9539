"""Errors of a testbed, each named for the reaction that the caller should have."""

from __future__ import annotations

from relab.core.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError, UnavailableError


class StartError(UnavailableError):
    """A component does not become ready.

    Attributes:
        component: the name of the component that is not ready, or None if no single one is responsible.
        log_tail: the end of that component's log.
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
    """No supervisor with this name is running."""


class NotAnsweringError(UnavailableError):
    """A process is running but does not do in time what it was asked to do."""


class MissingProgramError(ConfigurationError):
    """A program that the testbed needs is neither installed on the machine nor in a wheel."""


class WrongNameError(InvalidInputError):
    """A name, a port or a path is not valid for a testbed."""


class SupervisorBusyError(ConflictError):
    """Another change of the whole testbed is in progress, or another supervisor holds its folder."""


class UnknownComponentError(NotFoundError):
    """No component, group or link has this name."""


class UnknownVersionError(NotFoundError):
    """No version of the settings has this number."""


class StaleVersionError(ConflictError):
    """The settings have changed since the caller read them."""


class UnavailableLimitError(UnavailableError):
    """This machine cannot set such a limit (it has no writable control group)."""
