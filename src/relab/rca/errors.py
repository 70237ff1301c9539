"""Errors of root cause analysis."""

from __future__ import annotations

from relab.core.errors import NotFoundError, RelabError
from relab.jobs.errors import PermanentJobError


class UncitedClaimError(RelabError):
    """A claim has no evidence behind it: whoever made it (a detector, a model) must drop it."""

    code = "uncited_claim"


class RcaRunNotFoundError(NotFoundError):
    """No analysis has this id."""

    code = "rca_run_not_found"


class VanishedRunError(PermanentJobError):
    """The run was deleted before its analysis: there is nothing to analyse, now or later."""

    code = "agent_run_vanished"
