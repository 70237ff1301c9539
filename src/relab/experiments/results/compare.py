"""Decide whether a variant may replace the baseline: judge gates by the differences in a finished run.

A gate is a condition on the difference in a metric, such as `success>=-0.02`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from relab.core.json import canonical_json
from relab.experiments.results.aggregates import TrialData, open_trial_data
from relab.experiments.results.analysis import direction_of, primary_metrics
from relab.experiments.results.decidability import needed_json, needed_of, needed_text, rerun_chance
from relab.experiments.results.differences import (
    Delta,
    Sample,
    finite,
    interval_json,
    joint_json,
    joint_of,
    rate_bounds,
    sample_of,
)
from relab.experiments.results.gates import GateQuestion, parse_gates
from relab.experiments.results.run_metadata import COMPLETED, SUCCESS, RunFacts, read_facts
from relab.experiments.results.stopping import read_stopping
from relab.stats.intervals import LEVEL
from relab.stats.simultaneous import Joint
from relab.stats.verdicts import Gate, Judgement, Verdict, false_pass_rate, worst

MAX_MISSING: Final = 0.10
"""The largest share of a variant's planned trials that may lack a metric; above it, the rest is a biased sample."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of one gate, which is a condition on a difference from the baseline, for one variant.

    Attributes:
        variant: the id of the variant.
        gate: the text of the gate, such as `success>=-0.02`; for a default gate, a text such as `success is better`.
        judgement: the verdict, with the estimate and the interval on which it is based.
        delta: the difference that was judged; None if it is unknown whether the metric should be high or low.
    """

    variant: str
    metric: str
    gate: str
    judgement: Judgement
    delta: Delta | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result of the gate (condition) as a JSON object; an infinite end of an interval is None."""
        judgement = self.judgement
        return {
            "variant": self.variant,
            "metric": self.metric,
            "gate": self.gate,
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
            "estimate": None if judgement.estimate is None else finite(judgement.estimate),
            "interval": interval_json(judgement.interval),
            "windows": judgement.windows,
            "minimum_detectable_effect": judgement.minimum_detectable_effect,
            "false_pass_rate": judgement.false_pass_rate,
            "near_bound": judgement.is_near,
            "rerun_chance": judgement.rerun_chance,
            "needed": [needed_json(needed) for needed in judgement.needed],
            "delta": None if self.delta is None else self.delta.to_json(),
        }


@dataclass(frozen=True, slots=True)
class VariantComparison:
    """The verdict on all variants of a run.

    Attributes:
        baseline: the id of the variant that the others are compared with.
        verdict: the worst verdict of all results.
        reason: one sentence that explains the verdict, or says why the run cannot be judged.
        results: one per variant and gate (condition on a difference); empty if the run as a whole is INVALID.
        joint: the number of compared differences and the level of their intervals; None if the run was not judged.
        fork: a description of what is compared in a run of forks (trials that begin at a checkpoint of an earlier
            trial); None for another run, or if the run as a whole is INVALID.
        stopping: the stopping rule and its decisions (`stopping_v1`); None for a run without a rule, or if the run as a
            whole is INVALID.
    """

    run_id: str
    baseline: str
    verdict: Verdict
    reason: str
    results: tuple[GateResult, ...] = ()
    joint: Joint | None = None
    fork: str | None = None
    stopping: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison of the variants as a JSON object of the schema `comparison_v1`."""
        return {
            "schema_version": "comparison_v1",
            "run_id": self.run_id,
            "baseline": self.baseline,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "family": None if self.joint is None else joint_json(self.joint),
            "stopping": None if self.stopping is None else {**self.stopping, "order": None},
            "results": [result.to_json() for result in self.results],
            "fork": self.fork,
        }


def compare(
    run_dir: Path,
    *,
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    gates: Sequence[str] = (),
    measure_false_passes: bool = True,
    is_ending: bool = False,
    opened: TrialData | None = None,
    level: float = LEVEL,
) -> VariantComparison:
    """Judge every variant of a finished run against the baseline.

    Args:
        run_dir: the run's folder.
        baseline: the id of the variant to compare with; None for the configuration's baseline.
        metrics: metrics in which a variant must be better than the baseline; the primary metrics if neither `metrics`
            nor `gates` are given.
        gates: conditions on the differences from the baseline, such as `success>=-0.02` or `latency_ms<=5%`.
        measure_false_passes: whether to simulate how often each gate passes by chance, although the true difference is
            only at its bound. This takes up to 2 s per gate and variant.
        is_ending: True if the run's own process calls this function at its end. The run then counts as completed.
        opened: the open tables of the run, which must include the metrics to compare; None to open the tables here.
        level: the joint confidence level: the probability that all intervals contain their true differences.

    Raises:
        GateInvalidError: a gate cannot be parsed.
        RunNotFoundError, RunDamagedError: the folder is not a run, or a file of it cannot be read or was changed.
    """
    asked = parse_gates(gates)
    facts = read_facts(run_dir)
    if is_ending:
        facts = replace(facts, status=COMPLETED)
    base = facts.baseline if baseline is None else baseline
    problem = _unfit(facts, base)
    if problem is not None:
        return VariantComparison(facts.run_id, base, Verdict.INVALID, problem)
    wanted = [*metrics, *(gate.metric for gate in asked)]
    with open_trial_data(run_dir, wanted=wanted) if opened is None else nullcontext(opened) as data:
        problem = _unfinished(facts, data)
        if problem is not None:
            return VariantComparison(facts.run_id, base, Verdict.INVALID, problem)
        names = list(metrics) or ([] if asked else primary_metrics(facts, data))
        questions = [*_defaults(facts, data, names), *(GateQuestion(gate, is_default=False) for gate in asked)]
        asked_of = [(variant, question) for variant in facts.variants if variant != base for question in questions]
        samples = [_sample(facts, data, base, variant, question) for variant, question in asked_of]
        joint = joint_of([sample for sample in samples if sample is not None], level)
        judge = _Judge(facts, data, base, measure_false_passes, joint)
        results = tuple(
            judge.result(variant, question, sample)
            for (variant, question), sample in zip(asked_of, samples, strict=True)
        )
    if not results:
        return VariantComparison(facts.run_id, base, Verdict.INVALID, "there is no metric to compare by")
    verdict = worst([result.judgement.verdict for result in results])
    decisive = next(result for result in results if result.judgement.verdict is verdict)
    return VariantComparison(
        facts.run_id, base, verdict, f"{decisive.variant}: {decisive.judgement.reason}", results, joint, _about(facts),
        read_stopping(run_dir),
    )  # fmt: skip


def _about(facts: RunFacts) -> str | None:
    """Return a description of what is compared in a run of forks; None for another run.

    A fork is a trial that begins at a checkpoint of an earlier trial.
    """
    fork = facts.fork
    if fork is None:
        return None
    changes = [
        f"{name} {value if isinstance(value, str) else canonical_json(value)}" for name, value in fork["set"].items()
    ]
    change = f"with {', '.join(changes)}" if changes else "with nothing changed"
    count, of = fork["parents"], fork["parents_of_variant"]
    against = "forks of the same trials with nothing changed" if fork["control"] else "their parents"
    text = f"From {fork['point']} on, {change}: {count:,} forks against {against}, trials of {fork['parent_run_id']}."
    from_input = fork["fallback_modes"].get("input_only", 0)
    if from_input:
        text += f" {from_input:,} of them began from their input only."
    if count + sum(fork["left_out"].values()) < of and not fork["control"]:
        text += (
            f" {count:,} of {of:,} trials were chosen: if by their outcome, the difference contains regression to the mean;"
            " --control removes that."
        )
    return text


def _unfit(facts: RunFacts, baseline: str) -> str | None:
    if baseline not in facts.variants:
        return f"there is no variant {baseline!r}; the run has {', '.join(facts.variants)}"
    if len(facts.variants) < 2:
        return "the run has one variant only, so there is nothing to compare it with"
    if facts.config.design.comparison == "none":
        return "the experiment's design.comparison is 'none'"
    if facts.status not in {None, COMPLETED}:
        return f"the run is not finished: its status is {facts.status!r}"
    return None if facts.has_tables else "the run is not finished: it has no tables yet"


def _unfinished(facts: RunFacts, data: TrialData) -> str | None:
    trials = int(data.rows("SELECT count(*) FROM trials")[0][0])
    planned = facts.planned_trials(data.tasks)
    # A completed run may lack a few trials, which `_missing` checks for each metric; without a status it needs all of them.
    needed = planned * (1 - MAX_MISSING) if facts.status == COMPLETED else planned
    # If the run may stop early, its rule says how many trials it needs, and not the plan.
    is_enough = trials >= needed or (data.may_stop_early and facts.status == COMPLETED)
    if not is_enough or not trials:
        return f"the run is not finished: {trials:,} of {planned:,} trials have a result"
    return None


def _defaults(facts: RunFacts, data: TrialData, metrics: Sequence[str]) -> Iterator[GateQuestion | str]:
    for metric in dict.fromkeys(metrics):
        direction = direction_of(facts, data, metric)
        if direction is None:
            yield metric
        else:
            yield GateQuestion(Gate(metric, direction == "maximize", 0.0), is_default=True)


def _sample(
    facts: RunFacts, data: TrialData, baseline: str, variant: str, question: GateQuestion | str
) -> Sample | None:
    if isinstance(question, str):
        return None
    is_paired = facts.config.design.comparison == "paired"
    return sample_of(
        data, question.gate.metric, baseline=baseline, variant=variant, is_paired=is_paired, share=question.share
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    facts: RunFacts
    data: TrialData
    baseline: str
    measures_false_passes: bool
    joint: Joint

    def result(self, variant: str, question: GateQuestion | str, sample: Sample | None) -> GateResult:
        """Judge one gate (condition on the difference from the baseline) for one variant.

        `sample` has the values of variant and baseline. If it is unknown whether a metric should be high or low,
        `question` is the name of this metric, `sample` is None, and the verdict is INVALID.
        """
        if isinstance(question, str) or sample is None:
            reason = (
                f'the direction of {question!r} is unknown: give a gate, such as --gate "{question}<=5%", or declare '
                "the direction in the section metrics before the next run"
            )
            return GateResult(variant, str(question), f"{question} is better", Judgement(Verdict.INVALID, reason))
        metric = question.gate.metric
        delta = sample.estimate(level=self.joint.each, seed=self.facts.config.design.random_seed)
        return GateResult(variant, metric, str(question), self._judge(variant, question, delta), delta)

    def _judge(self, variant: str, question: GateQuestion, delta: Delta) -> Judgement:
        judgement = Judgement(
            Verdict.INVALID,
            "",
            estimate=delta.estimate,
            interval=delta.interval,
            windows=delta.clusters,
            minimum_detectable_effect=delta.minimum_detectable_effect,
        )
        # Missing figures cause the delta's own problem, so they are reported first.
        problem = delta.problem if delta.estimate is None else self._missing(variant, delta) or delta.problem
        if problem is None and question.share and (delta.baseline_mean or 0) <= 0:
            problem = "a relative bound needs a baseline above 0; give the bound in the metric's own unit"
        if problem is not None or delta.interval is None:
            return replace(judgement, reason=problem or "there is no interval")
        verdict = question.judge(delta.interval)
        repeats = self.facts.config.design.replications
        judgement = replace(judgement, verdict=verdict, false_pass_rate=self._false_passes(question, delta))
        if not delta.is_always_valid:
            # What follows is about another run of a fixed size.
            judgement = replace(
                judgement,
                rerun_chance=rerun_chance(delta, question.gate, verdict),
                needed=needed_of(delta, question.gate, repeats=repeats) if verdict is Verdict.EDGE else (),
            )
        return replace(judgement, reason=_reason(question, judgement, delta, self.joint, repeats))

    def _missing(self, variant: str, delta: Delta) -> str | None:
        """Return the reason why variant and baseline cannot be judged in a metric; None if they can.

        They cannot be judged if one of them has no results. They cannot be judged, either, if too many values of the
        metric are missing: more than the fraction `MAX_MISSING` of the planned trials of one of them, or, in a run that
        could stop early, of the examined tasks.
        """
        are_forks = self.facts.fork is not None
        if text := self.data.without_result(self.baseline, variant, delta.source_name, are_forks=are_forks):
            return text
        if delta.is_always_valid:
            # A variant that is decided early has no trials of the later tasks. The rule looks at the missing figures.
            share = 1 - delta.tasks / max(self.data.looked_at(self.baseline, variant), 1)
            text = f"{share:.0%} of the tasks have no figures for {delta.metric!r}; no more than {MAX_MISSING:.0%} may be missing"
            return text if share > MAX_MISSING else None
        planned = self.facts.planned_of_variant(self.data.tasks)
        for name in (self.baseline, variant):
            there = int(self.data.task_means(name, delta.source_name).trials.sum())
            if delta.source_name == SUCCESS:
                there -= self.data.missing_outcomes(name)
            if there < planned * (1 - MAX_MISSING):
                return (
                    f"{name!r} has {there:,} figures for {delta.metric!r} of {planned:,} planned trials; "
                    f"no more than {MAX_MISSING:.0%} may be missing"
                )
        return None

    def _false_passes(self, question: GateQuestion, delta: Delta) -> float | None:
        if not self.measures_false_passes or delta.differences is None or delta.is_always_valid:
            return None
        return false_pass_rate(
            delta.differences,
            question.gate,
            question.threshold,
            bounds=rate_bounds(delta.source_name, question.share),
            seed=self.facts.config.design.random_seed,
            level=self.joint.each,
        )


def _reason(question: GateQuestion, judgement: Judgement, delta: Delta, joint: Joint, repeats: int) -> str:
    assert delta.interval is not None
    assert delta.estimate is not None
    interval = delta.interval
    together = "" if joint.comparisons < 2 else f" for all {joint.comparisons} comparisons together"
    figures = (
        f"{delta.metric} differs by {delta.estimate:+.4g} "
        f"({joint.level * 100:.3g}% {'always-valid ' if delta.is_always_valid else ''}interval {interval.ends_text}{together}, {delta.tasks:,} tasks)"
    )
    if question.share:
        figures = figures.replace(" differs by ", f" less {1 + question.share:g} times the baseline's is ", 1)
    bound = f"the bound of {question.gate}"
    said = {
        Verdict.PASS: f"all of it keeps {bound}" if not question.is_default else "all of it is better",
        Verdict.FAIL: f"all of it breaks {bound}" if not question.is_default else "all of it is worse",
    }
    undecided = (
        f"keeps {bound} nor all of it breaks it" if not question.is_default else "is better nor all of it is worse"
    )
    text = f"{figures}; {said.get(judgement.verdict, f'neither all of it {undecided}')}"
    if judgement.is_near:
        text += (
            f", but near its bound: if the true difference is the one seen, another run of this size gives "
            f"{judgement.verdict.value} in about {judgement.rerun_chance:.0%}"
        )
    for needed in judgement.needed:
        knows = delta.repeat_variance is not None
        text += "; " + needed_text(needed, tasks=delta.tasks, repeats=repeats, knows_repeats=knows)
    return text
