"""Errors of the load generator: a wrong plan, a wrong request mix, or a target that cannot be loaded."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class PlanError(InvalidInputError):
    """A field of a load plan is invalid."""

    code = "invalid_load_plan"


class MixError(InvalidInputError):
    """A request mix cannot be read, or one of its request templates is invalid or uses an undefined value."""

    code = "invalid_mix"


class RemoteTargetError(InvalidInputError):
    """The target is another machine, and the plan does not allow remote targets."""

    code = "remote_target"


class UnreachableTargetError(UnavailableError):
    """The target's name has no address, or nothing accepts connections there."""

    code = "target_unreachable"
