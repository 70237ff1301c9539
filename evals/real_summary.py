"""Compute the figures of an evaluation from its outcomes, each with its n."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from scipy.stats import binomtest

from evals.api_client import Outcome
from evals.datasets import tau_bench
from evals.quotation import Report

CATEGORIES = (
    "tool_schema_mismatch",
    "rate_limited",
    "tool_permission",
    "timeout",
    "planner_loop",
    "retrieval_empty",
    "prompt_regression",
    "unknown",
)
STRONG = frozenset({"medium", "high"})


@dataclass(frozen=True)
class Proportion:
    """A proportion, `hits` of `n`, with its Wilson score interval at 95 % (both ends are None if `n` is 0)."""

    hits: int
    n: int
    low: float | None
    high: float | None


def proportion(hits: int, n: int) -> Proportion:
    """Return the proportion `hits` of `n` with its interval (Wilson 1927, as implemented by `scipy.stats.binomtest`)."""
    if n == 0:
        return Proportion(hits, n, None, None)
    interval = binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
    return Proportion(hits, n, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Group:
    """The figures of the runs with the same data set, agent and outcome.

    Attributes:
        categories: the number of reports by category.
        insufficient: the number of reports without enough evidence.
        with_hypothesis, with_attribution: the number of reports with a hypothesis, and with an attribution.
        findings_per_run: the mean number of findings of a report.
        evidence, verbatim, citations, problems: sums over the checks of the reports.
        analysis_median_s, analysis_max_s: the median and the maximum of the seconds from request to report.
    """

    dataset: str
    agent: str
    status: str
    runs: int
    accepted: int
    rejected: int
    crashed: int
    reports: int
    categories: dict[str, int]
    insufficient: int
    with_hypothesis: int
    with_attribution: int
    findings_per_run: float | None
    evidence: int
    verbatim: int
    citations: int
    problems: int
    analysis_median_s: float | None
    analysis_max_s: float | None


@dataclass(frozen=True)
class Alarms:
    """The number of reports on a group of runs that claim a problem; for runs without a failure these are false alarms.

    Attributes:
        group: name of the group of runs.
        by_construction: True if the analyser's rules allow no claim, so that the figures measure nothing.
        hypotheses: reports with a hypothesis of any confidence.
        strong_hypotheses: reports with a hypothesis of medium or high confidence.
        strong_findings: reports with an unrecovered finding of medium or high confidence.
    """

    group: str
    by_construction: bool
    hypotheses: Proportion
    strong_hypotheses: Proportion
    strong_findings: Proportion


@dataclass(frozen=True)
class Summary:
    """The figures of the whole evaluation.

    Attributes:
        rejections: the number of rejected runs by the server's reason.
        failures: one line for each reason why the evaluation failed.
        seconds: the duration of each stage by its name, in seconds.
    """

    groups: list[Group]
    alarms: list[Alarms]
    rejections: dict[str, int]
    failures: list[str]
    seconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether every rejection has a reason, nothing crashed, and all quotations are verbatim."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {"ok": self.ok, **asdict(self)}


def summarise(outcomes: Sequence[Outcome], seconds: dict[str, float]) -> Summary:
    """Compute the figures over all runs.

    Args:
        outcomes: the outcomes of all runs, in the order of their data sets.
        seconds: the duration of each stage by its name, in seconds.
    """
    keys = dict.fromkeys(_key(outcome) for outcome in outcomes)
    return Summary(
        groups=[_group(key, [outcome for outcome in outcomes if _key(outcome) == key]) for key in keys],
        alarms=_alarms(outcomes),
        rejections=dict(Counter(outcome.reason for outcome in outcomes if outcome.reason)),
        failures=list(_failures(outcomes)),
        seconds=seconds,
    )


def _key(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.dataset, outcome.body["agent_name"], outcome.body["status"]


def _group(key: tuple[str, str, str], outcomes: Sequence[Outcome]) -> Group:
    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    waits = [outcome.analysis_s for outcome in outcomes if outcome.analysis_s is not None]
    counted = Counter(report["category"] for report in reports)
    dataset, agent, status = key
    return Group(
        dataset=dataset,
        agent=agent,
        status=status,
        runs=len(outcomes),
        accepted=sum(outcome.accepted is True for outcome in outcomes),
        rejected=sum(outcome.accepted is False and outcome.crash is None for outcome in outcomes),
        crashed=sum(outcome.crash is not None for outcome in outcomes),
        reports=len(reports),
        categories={name: counted[name] for name in [*CATEGORIES, *sorted(counted.keys() - set(CATEGORIES))]},
        insufficient=sum(report["insufficient_evidence"] for report in reports),
        with_hypothesis=sum(bool(report["hypotheses"]) for report in reports),
        with_attribution=sum(report["attribution"] is not None for report in reports),
        findings_per_run=sum(len(report["findings"]) for report in reports) / len(reports) if reports else None,
        evidence=sum(outcome.check.evidence for outcome in outcomes),
        verbatim=sum(outcome.check.verbatim for outcome in outcomes),
        citations=sum(outcome.check.citations for outcome in outcomes),
        problems=sum(len(outcome.check.problems) for outcome in outcomes),
        analysis_median_s=median(waits) if waits else None,
        analysis_max_s=max(waits, default=None),
    )


def _alarms(outcomes: Sequence[Outcome]) -> list[Alarms]:
    """Count claims about three groups of tau-bench runs: passed, the same runs reported as failed, and failed."""
    groups = (
        ("passed", tau_bench.NAME, "success", True),
        ("passed, reported as failed", tau_bench.CONTROL, "failure", False),
        ("failed", tau_bench.NAME, "failure", False),
    )
    return [
        _alarms_of(
            label,
            [o.report for o in outcomes if o.report and (o.dataset, o.body["status"]) == (dataset, status)],
            by_construction=by_construction,
        )
        for label, dataset, status, by_construction in groups
    ]


def _alarms_of(label: str, reports: Sequence[Report], *, by_construction: bool) -> Alarms:
    def share(claims: Callable[[Report], bool]) -> Proportion:
        return proportion(sum(claims(report) for report in reports), len(reports))

    return Alarms(
        group=label,
        by_construction=by_construction,
        hypotheses=share(lambda report: bool(report["hypotheses"])),
        strong_hypotheses=share(lambda report: any(h["confidence"] in STRONG for h in report["hypotheses"])),
        strong_findings=share(
            lambda report: any(not f["recovered"] and f["confidence"] in STRONG for f in report["findings"])
        ),
    )


def _failures(outcomes: Iterable[Outcome]) -> Iterable[str]:
    for outcome in outcomes:
        name = f"{outcome.dataset} {outcome.run_id}"
        if outcome.crash is not None:
            yield f"{name}: {outcome.crash}"
        elif outcome.accepted is False and not outcome.reason:
            yield f"{name}: rejected without a reason"
        for problem in outcome.check.problems:
            yield f"{name}: {problem}"
