"""What can be wrong with a load before the first request."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class PlanError(InvalidInputError):
    """The plan of a load asks for something that cannot be."""

    code = "invalid_load_plan"


class MixError(InvalidInputError):
    """A request mix cannot be read, or one of its templates cannot be filled."""

    code = "invalid_mix"


class RemoteTargetError(InvalidInputError):
    """The target is another machine, and nobody said that it may be."""

    code = "remote_target"


class UnreachableTargetError(UnavailableError):
    """The target's name leads nowhere, or nothing takes connections there."""

    code = "target_unreachable"
