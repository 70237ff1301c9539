"""Measure the judge beside the local ranking on labelled conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from evals.quotation import check_report
from evals.rca.cases import ALGORITHM_SET, HAND_SET, Case
from evals.rca.measuring import NO_MODELS, RULES, Rows, step_row
from evals.rca.predictions import Prediction, prediction_of
from relab.rca.analyzer import analyze
from relab.rca.judge.cache import JudgeAnswerCache
from relab.rca.judge_models import JudgeVerdict
from relab.rca.models import JudgeMethod, Report
from relab.telemetry.models import AgentRun

CONVERSATIONS: Final = (HAND_SET, ALGORITHM_SET)
Judging: TypeAlias = Callable[[Report, AgentRun, JudgeMethod, JudgeAnswerCache], Report]


@dataclass(frozen=True)
class JudgeCost:
    """The cost of the judgements of a set: runs with a named step, calls, tokens, USD, and dropped answers.

    `usd` is None if a price is not known; `fallbacks` counts the reasons of the runs without a named step.
    """

    runs: int
    named: int
    calls: int
    tokens: int
    usd: float | None
    fallbacks: Mapping[str, int]
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class JudgeMeasured:
    """The figures of the judge.

    Attributes:
        steps: per set its name, and the figures of the local ranking and of the judge. The judge's row uses the local
            ranking where the judge named no step; its last row has only the runs for which it named one.
        cost: the cost per set.
        problems: violated guarantees of quotations and citations, one sentence each.
    """

    method: str
    steps: Sequence[tuple[str, Rows]]
    cost: Mapping[str, JudgeCost]
    problems: Sequence[str]


class MemoryCache:
    """Keeps the answers of one evaluation."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """Return the JSON of a stored answer."""
        return self._answers.get(key)

    def put(self, key: str, answer: str) -> None:
        """Store the JSON of an answer."""
        self._answers[key] = answer


def measure_judge(
    cases: Mapping[str, Sequence[Case]],
    method: JudgeMethod,
    judge_of: Callable[[Case], Judging],
    tick: Callable[[str], None] = lambda _: None,
) -> JudgeMeasured:
    """Analyse the conversations with the local ranking of an unknown source, and with the judge.

    `judge_of` returns the judge for a case; the real judge is the same for all cases. `tick` is called with a word
    before each set.
    """
    steps, cost, problems = [], {}, []
    for name in CONVERSATIONS:
        tick(f"{name}: judge")
        local, judged, verdicts = [], [], []
        for case in cases[name]:
            run = case.run
            before = analyze(run, models=NO_MODELS)
            after = judge_of(case)(before, run, method, MemoryCache())
            assert after.judge is not None
            problems += check_report(case.body, after.model_dump(mode="json")).problems
            local.append((case, prediction_of(before)))
            judged.append((case, _with_judge(prediction_of(before), after.judge)))
            verdicts.append(after.judge)
        named = [pair for pair, verdict in zip(judged, verdicts, strict=True) if verdict.steps]
        rows = {RULES: step_row(local), f"judge, {method}": step_row(judged)}
        steps.append((name, {**rows, f"judge, {method}, where it names a step": step_row(named)}))
        cost[name] = _cost(verdicts)
    return JudgeMeasured(method.value, steps, cost, problems)


def _with_judge(local: Prediction, verdict: JudgeVerdict) -> Prediction:
    if not verdict.steps:
        return local
    steps = tuple(dict.fromkeys((*(step.step_id for step in verdict.steps), *local.steps)))
    return replace(local, steps=steps, agent=verdict.steps[0].agent_name)


def _cost(verdicts: Sequence[JudgeVerdict]) -> JudgeCost:
    fallbacks: dict[str, int] = {}
    dropped: dict[str, int] = {}
    for verdict in verdicts:
        if verdict.fallback is not None:
            fallbacks[verdict.fallback] = fallbacks.get(verdict.fallback, 0) + 1
        for reason, number in verdict.dropped.items():
            dropped[reason.value] = dropped.get(reason.value, 0) + number
    prices = [verdict.usd for verdict in verdicts]
    return JudgeCost(
        runs=len(verdicts),
        named=sum(bool(verdict.steps) for verdict in verdicts),
        calls=sum(verdict.calls for verdict in verdicts),
        tokens=sum(verdict.prompt_tokens + verdict.completion_tokens for verdict in verdicts),
        usd=None if None in prices else sum(price or 0.0 for price in prices),
        fallbacks=fallbacks,
        dropped=dropped,
    )
