"""The deterministic root cause analysis of one run, in one call or in its three stages.

    collected = collect_evidence(run, history)   # the problems of the run, with the places that show them
    classified = classify(collected)             # the possible causes of the failure
    report = build_report(classified)            # the report; each of its claims cites evidence

Pure: no IO, no clock, no randomness; equal input gives an equal report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relab.rca.attribution import RankedCause, classify_problems, insufficient_reason, resolve
from relab.rca.detectors import DetectedProblem, find_problems
from relab.rca.evidence import RunView
from relab.rca.models import Report
from relab.rca.ranking import Ranking, RankingModels, rank_run, shipped_models
from relab.rca.report import compose
from relab.telemetry.log_models import LogLine
from relab.telemetry.models import AgentRun
from relab.telemetry.past_models import PastRun

ANALYZER_VERSION = "26"
"""Increase it with each change that may alter a run's report; stored reports name the version that made them."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of the first stage of an analysis: the indexed run, and all of its problems in order of time."""

    view: RunView
    problems: tuple[DetectedProblem, ...]


@dataclass(frozen=True, slots=True)
class Classified:
    """The result of the second stage of an analysis: the possible causes, and the ranking of the run's steps.

    Attributes:
        view: the indexed run, from the first stage.
        problems: all problems of the run in order of time, from the first stage.
        causes: the possible causes of the failure, most likely first.
        insufficient_reason: why the run's telemetry is not sufficient to name a cause; None if it is sufficient.
        ranking: the steps of the run by the probability that they went wrong, most likely first.
    """

    view: RunView
    problems: tuple[DetectedProblem, ...]
    causes: tuple[RankedCause, ...]
    insufficient_reason: str | None
    ranking: Ranking


def collect_evidence(run: AgentRun, history: Sequence[PastRun] = (), logs: Sequence[LogLine] = ()) -> Collected:
    """Find the problems of a run and the places that show them (stage "Collecting evidence").

    Args:
        run: the run to analyse.
        history: earlier runs of the same agent in the same environment, of all versions of the agent, in any order; it
            may contain `run` itself.
        logs: the warnings and errors that were logged in the trace of the run.
    """
    view = RunView(run, history, logs)
    return Collected(view, resolve(find_problems(view), view))


def classify(collected: Collected, models: RankingModels | None = None) -> Classified:
    """Group the problems in `collected` into possible causes, rank them, and check that the evidence is sufficient.

    The steps of the run are ranked too, by the probability that each step went wrong. This is the stage "Classifying
    failure".

    Args:
        collected: the result of `collect_evidence`, the first stage.
        models: the models that rank steps. Each model was trained on the runs of one source (a program that makes
            runs), and ranks only runs of this source. None for the models that relab ships.
    """
    view, problems = collected.view, collected.problems
    return Classified(
        view,
        problems,
        classify_problems(problems, view),
        insufficient_reason(view, problems),
        rank_run(view, shipped_models() if models is None else models),
    )


def build_report(classified: Classified) -> Report:
    """Build the report of an analysis (stage "Generating report").

    Each claim in the report cites entries of the report's list of evidence.
    """
    return compose(
        classified.view,
        classified.problems,
        classified.causes,
        classified.insufficient_reason,
        classified.ranking,
        analyzer_version=ANALYZER_VERSION,
    )


def analyze(
    run: AgentRun,
    history: Sequence[PastRun] = (),
    logs: Sequence[LogLine] = (),
    models: RankingModels | None = None,
) -> Report:
    """Analyse a run in all three stages (collect evidence, classify the failure, build the report); return the report.

    Args:
        run: the run to analyse.
        history: earlier runs of the same agent in the same environment, of all versions of the agent, in any order; it
            may contain `run` itself.
        logs: the warnings and errors that were logged in the trace of the run.
        models: the models that rank steps; None for the models that relab ships.
    """
    return build_report(classify(collect_evidence(run, history, logs), models))
