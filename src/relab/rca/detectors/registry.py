"""All detectors, in the order in which the analysis runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from relab.rca.detectors import (
    planner_loop,
    prompt_regression,
    rate_limited,
    retrieval_empty,
    timeout,
    tool_permission,
    tool_schema_mismatch,
    unknown,
)
from relab.rca.evidence.problems import Problem
from relab.rca.evidence.run_view import RunView

Detector: TypeAlias = Callable[[RunView], Iterable[Problem]]

DETECTORS: tuple[Detector, ...] = (
    rate_limited.detect,
    tool_permission.detect,
    tool_schema_mismatch.detect,
    timeout.detect,
    retrieval_empty.detect,
    planner_loop.detect,
    prompt_regression.detect,
    unknown.detect,
)
