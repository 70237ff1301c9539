"""All detectors, in the order in which the analysis runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from relab.rca.detectors import (
    permission,
    planner_loop,
    rate_limit,
    regression,
    retrieval,
    schema_mismatch,
    timeout,
    unclassified,
)
from relab.rca.problems import Problem
from relab.rca.run_view import RunView

Detector: TypeAlias = Callable[[RunView], Iterable[Problem]]

DETECTORS: tuple[Detector, ...] = (
    rate_limit.detect,
    permission.detect,
    schema_mismatch.detect,
    timeout.detect,
    retrieval.detect,
    planner_loop.detect,
    regression.detect,
    unclassified.detect,
)
