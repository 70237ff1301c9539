"""Errors of rollouts. A rollout that fails its thresholds is a verdict, not an error."""

from __future__ import annotations

from relab.core.errors import InvalidInputError


class PlanInvalidError(InvalidInputError):
    """The plan file is unreadable or invalid; each problem names file, line and field."""

    code = "plan_invalid"
