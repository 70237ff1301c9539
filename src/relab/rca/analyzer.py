"""The deterministic root cause analysis of one run, whole or in its three stages.

    collected = collect_evidence(run, history)   # what is wrong, and where it shows
    classified = classify(collected)             # which of it is the cause
    report = build_report(classified)            # the report, every claim with its citations

Pure: no IO, no clock, no randomness; equal input gives an equal report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relab.rca.classification import Cause, classify_problems
from relab.rca.detectors.registry import DETECTORS
from relab.rca.models import Report
from relab.rca.problems import Problem
from relab.rca.report import compose
from relab.rca.resolution import resolve
from relab.rca.run_view import RunView
from relab.rca.sufficiency import insufficient_reason
from relab.telemetry.models import AgentRun, RunSummary

ANALYZER_VERSION = "1"
"""Raised whenever the same run may get another report, so that stored reports tell which rules made them."""


@dataclass(frozen=True, slots=True)
class Collected:
    """After the first stage: the run, indexed, and every problem in it, in order of time."""

    view: RunView
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Classified:
    """After the second stage: the possible causes, most likely first, and whether they can be trusted.

    `insufficient_reason` is None when the run's telemetry can carry a conclusion.
    """

    view: RunView
    problems: tuple[Problem, ...]
    causes: tuple[Cause, ...]
    insufficient_reason: str | None


def collect_evidence(run: AgentRun, history: Sequence[RunSummary] = ()) -> Collected:
    """Find every problem of a run and where it shows (stage "Collecting evidence").

    `history` is earlier runs of the same agent in the same environment, of this version
    and others, in any order; the run itself may be among them.
    """
    view = RunView(run, history)
    found = [problem for detect in DETECTORS for problem in detect(view)]
    return Collected(view, resolve(found, view))


def classify(collected: Collected) -> Classified:
    """Rank the problems into causes, and ask whether the evidence suffices (stage "Classifying failure")."""
    view, problems = collected.view, collected.problems
    return Classified(view, problems, classify_problems(problems, view), insufficient_reason(view, problems))


def build_report(classified: Classified) -> Report:
    """Write the report (stage "Generating report"); every claim in it cites evidence that it holds."""
    return compose(
        classified.view,
        classified.problems,
        classified.causes,
        classified.insufficient_reason,
        analyzer_version=ANALYZER_VERSION,
    )


def analyze(run: AgentRun, history: Sequence[RunSummary] = ()) -> Report:
    """Analyse one run; see `collect_evidence` for the meaning of `history`."""
    return build_report(classify(collect_evidence(run, history)))
