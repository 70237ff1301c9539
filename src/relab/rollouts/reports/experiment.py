"""Write the texts of reports about the experiment that decided a rollout: its run, its variants and its gates."""

from __future__ import annotations

import math

from relab.rollouts.models import ExperimentEvidence, GateFigures
from relab.rollouts.reports.wording import UNKNOWN
from relab.stats.intervals import unbounded_text


def evidence_inputs(evidence: ExperimentEvidence) -> list[str]:
    """Return the lines of the summary's section INPUTS: the run of the experiment, and its variants."""
    return [
        f"- Experiment run: {_flat(evidence.run_id)}, Folder: {_flat(evidence.run_dir)}",
        f"- Variant: {_flat(evidence.variant)} (arm B), Baseline: {_flat(evidence.baseline)} (arm A)",
    ]


def evidence_results(evidence: ExperimentEvidence) -> list[str]:
    """Return the lines of the summary's section RESULTS: one line for each gate of the experiment."""
    return [f"- {_flat(gate.gate)}: {gate.verdict.value}, {gate_text(gate, evidence)}" for gate in evidence.gates]


def evidence_rows(evidence: ExperimentEvidence) -> list[tuple[str, str, str]]:
    """Return a row (gate, verdict, figures and reason) for each gate of the experiment, for the rollout's page.

    A gate is a bound on the difference between the variant and the baseline.
    """
    return [
        (_flat(gate.gate), gate.verdict.value, f"{gate_text(gate, evidence)}; {_flat(gate.reason)}")
        for gate in evidence.gates
    ]


def gate_text(gate: GateFigures, evidence: ExperimentEvidence) -> str:
    """Return the figures of a gate as one line, such as the difference between variant and baseline with its interval.

    The other figures are the number of pairs (of trials), the minimum detectable effect and the false-PASS rate.
    """
    if gate.estimate is None:
        return "difference n/a"
    level = UNKNOWN if evidence.level is None else f"{100 * evidence.level:.4g}%"
    if gate.low is None and gate.high is None:
        ends = unbounded_text(gate.interval_method)
    else:
        low, high = -math.inf if gate.low is None else gate.low, math.inf if gate.high is None else gate.high
        ends = f"{_number(low)} to {_number(high)}"
    rate = UNKNOWN if gate.false_pass_rate is None else f"{100 * gate.false_pass_rate:.2f}% of cases"
    return (
        f"difference {_number(gate.estimate)} ({level} interval {ends}), {gate.pairs:,} pairs, "
        f"detectable {_number(gate.minimum_detectable_effect, is_signed=False)}, equal variants pass in {rate}"
    )


def _number(value: float | None, *, is_signed: bool = True) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:+.4g}" if is_signed else f"{value:.4g}"


def _flat(text: str) -> str:
    """Return a text on one line."""
    # A line end in a name from outside could forge a section of the summary.
    return " ".join(text.split())
