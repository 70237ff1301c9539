"""Errors of a testbed. The base class of each error says how the caller should react."""

from __future__ import annotations

from relab.core.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError, UnavailableError


class StartError(UnavailableError):
    """A component of the testbed does not become ready in time.

    Attributes:
        component: the name of the component; None if no single component is responsible.
        log_tail: the last lines of the component's log.
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
    """The testbed with this name is not running, so nothing can be requested from its supervisor."""


class NotAnsweringError(UnavailableError):
    """A process of the testbed is running, but does not answer or end in time."""


class MissingProgramError(ConfigurationError):
    """A program that the testbed needs is neither installed on the machine nor part of an installed Python package."""


class WrongNameError(InvalidInputError):
    """A name, a port or a path is not valid for a testbed: it has invalid characters, is out of range or too long."""


class SupervisorBusyError(ConflictError):
    """The testbed is being started, reset or stopped, or another supervisor holds the testbed's lock."""


class UnknownComponentError(NotFoundError):
    """The testbed has no component, group of components or link (network proxy) with this name."""


class UnknownVersionError(NotFoundError):
    """No version of the settings has this number."""


class StaleVersionError(ConflictError):
    """A change of the settings is rejected, because the settings have changed since the caller read them."""


class UnavailableLimitError(UnavailableError):
    """This machine cannot enforce a requested resource limit, because relab has no right to write a control group."""
