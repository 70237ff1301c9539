"""The figures of a gate of an experiment, in the reports of a rollout."""

from __future__ import annotations

import pytest

from relab.rollouts.models import ExperimentEvidence, GateFigures
from relab.rollouts.reports.experiment import gate_text
from relab.stats.verdicts import Verdict


def text(low: float | None, high: float | None, method: str | None = None) -> str:
    gate = GateFigures(
        metric="score", gate="score>=-1", verdict=Verdict.EDGE, reason="", estimate=0.0, low=low, high=high,
        interval_method=method, pairs=9,
    )  # fmt: skip
    evidence = ExperimentEvidence(run_id="r", run_dir="r", baseline="a", variant="b", level=0.95, gates=(gate,))
    return gate_text(gate, evidence)


@pytest.mark.parametrize(
    ("low", "high", "method", "ends"),
    [
        (None, None, "none: the differences do not vary", "unbounded: the differences do not vary"),
        (None, None, None, "unbounded"),
        (-0.5, 0.25, "Welch t", "-0.5 to +0.25"),
        (-0.5, None, "always valid", "-0.5 to +inf"),
        (None, 0.25, "always valid", "-inf to +0.25"),
    ],
)
def test_interval_without_bounds_has_a_reason(
    low: float | None, high: float | None, method: str | None, ends: str
) -> None:
    assert f"(95% interval {ends})" in text(low, high, method)
