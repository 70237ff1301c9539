"""The section `canary` of a plan: after a PASS, apply the change in steps, and check each step."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Self

from pydantic import Field, ValidationInfo, model_validator

from relab.core.stored_documents import is_stored
from relab.rollouts.plans.section import PlanSection

Percent = Annotated[float, Field(gt=0, le=100)]
_SHARE_UNITS: Final = 100
"""Flags hold shares in units of 0.01 %, so this is the number of units in 1 %."""


class CanaryGuard(PlanSection):
    """The limits of each step of a canary; exceeding a limit restores the old flags.

    Attributes:
        max_error_rate: greatest error rate of the new flags in a step, in percent.
        max_delta_p95: greatest increase, in percent, of the judged figure (by default the P95 latency of requests). The
            increase is measured from the median of the figure with the old flags (arm A).
    """

    max_error_rate: Percent = 1.0
    max_delta_p95: Annotated[float, Field(gt=0, le=10_000)] = 25.0


class Canary(PlanSection):
    """How new flags are applied after a PASS: to a growing share of the traffic, in steps.

    Attributes:
        steps: shares of the traffic in percent, ascending; the last share is 100. The flag stores each share rounded to
            0.01 %, so the steps must differ by at least that.
        step_sec: duration of each step, in seconds.
        guard: the limits that each step must keep.
    """

    steps: Annotated[tuple[Percent, ...], Field(min_length=1, max_length=20, strict=False)] = (10.0, 50.0, 100.0)
    step_sec: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    guard: CanaryGuard = CanaryGuard()

    @model_validator(mode="after")
    def _check_steps(self, info: ValidationInfo) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.steps)) or self.steps[-1] != 100:
            raise ValueError("the steps must ascend and end at 100 (percent)")
        if is_stored(info):
            # Earlier versions accepted these steps; their rollouts must stay readable.
            return self
        shares = [0, *(round(step * _SHARE_UNITS) for step in self.steps)]
        if any(later == earlier for earlier, later in pairwise(shares)):
            raise ValueError("the steps must rise by at least 0.01 (percent) each: flags round shares to 0.01 %")
        return self
