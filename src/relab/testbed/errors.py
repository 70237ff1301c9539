"""Errors of a testbed. The base class of each error names its kind, such as a conflict or invalid input."""

from __future__ import annotations

from relab.core.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError, UnavailableError


class StartError(UnavailableError):
    """The testbed or one of its components cannot be started, or does not become ready in time.

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
    """A process of the testbed does not become ready, answer or end in time."""


class MissingProgramError(ConfigurationError):
    """This machine cannot run a testbed: the system is not Linux, or a program is missing or not safe to use."""


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
    """A resource limit cannot be set: relab may not write the control group, or the kernel rejects the limit."""
