"""Measure the analyser beside the trivial rules on all sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from evals.rca.cases import (
    ALGORITHM_SET,
    FAILING_SET,
    HAND_SET,
    PASSING_SET,
    TRAIL_SET,
    Case,
    without_labelled_evidence,
)
from evals.rca.figures import (
    Bin,
    Figure,
    Pair,
    is_agent,
    is_in_top_three,
    is_step,
    is_within_one,
    locate,
    reliability,
    share,
)
from evals.rca.predictions import Analysed, Prediction, analyse_case
from evals.rca.rules import SPAN_RULES, STEP_RULES

ANALYSER = "relab"
Rows: TypeAlias = Mapping[str, Mapping[str, Figure]]


@dataclass(frozen=True)
class Measured:
    """All figures of one evaluation.

    Attributes:
        steps: per set of conversations its name and the figures of each method.
        spans: the figures of located spans by method.
        controls: evidence, false alarms and abstention.
        reliability: per set its name, its reliability table and the calibration error.
        cost: per set (n, median ms, 95 % ms, max ms, max KiB).
        problems: violated guarantees of quotations and citations, one sentence each.
    """

    steps: Sequence[tuple[str, Rows]]
    spans: Rows
    controls: Rows
    reliability: Sequence[tuple[str, Sequence[Bin], float]]
    cost: Sequence[tuple[str, tuple[float, ...]]]
    problems: Sequence[str]


def measure(cases: Mapping[str, Sequence[Case]], tick: Callable[[], None] = lambda: None) -> Measured:
    """Analyse all cases and count; `tick` is called after each set."""
    analysed: dict[str, list[Analysed]] = {}
    for name, chosen in cases.items():
        analysed[name] = [analyse_case(case, trace_memory=index % 10 == 0) for index, case in enumerate(chosen)]
        tick()
    pairs = {name: _pairs(cases[name], (item.prediction for item in analysed[name])) for name in cases}
    conversations = [name for name in (HAND_SET, ALGORITHM_SET) if name in cases]
    return Measured(
        steps=[(name, _step_rows(cases[name], pairs[name])) for name in conversations],
        spans=_span_rows(cases[TRAIL_SET], pairs[TRAIL_SET]),
        controls=_controls(cases, analysed, pairs),
        reliability=[(name, *reliability(pairs[name])) for name in conversations],
        cost=[(name, _cost(items)) for name, items in analysed.items()],
        problems=[problem for items in analysed.values() for item in items for problem in item.check.problems],
    )


def _pairs(cases: Sequence[Case], predictions: Iterable[Prediction]) -> list[Pair]:
    return list(zip(cases, predictions, strict=True))


def _step_rows(cases: Sequence[Case], found: Sequence[Pair]) -> Rows:
    methods = {name: _pairs(cases, (rule(case.run) for case in cases)) for name, rule in STEP_RULES.items()}
    return {name: _step_row(pairs) for name, pairs in {**methods, ANALYSER: found}.items()}


def _step_row(pairs: Sequence[Pair]) -> dict[str, Figure]:
    return {
        "step": share(pairs, is_step),
        "step ±1": share(pairs, is_within_one),
        "top 3": share(pairs, is_in_top_three),
        "agent": share(pairs, is_agent),
        "names a step": share(pairs, lambda _, item: bool(item.steps)),
    }


def _span_rows(cases: Sequence[Case], found: Sequence[Pair]) -> Rows:
    methods = {name: _pairs(cases, (rule(case.run) for case in cases)) for name, rule in SPAN_RULES.items()}
    rows = {}
    for name, pairs in {**methods, ANALYSER: found}.items():
        place, kind = locate(pairs, with_category=False), locate(pairs, with_category=True)
        rows[name] = {
            "precision": place.precision,
            "recall": place.recall,
            "F1": place.f1,
            "F1 span and category": kind.f1,
        }
    return rows


def _controls(
    cases: Mapping[str, Sequence[Case]], analysed: Mapping[str, Sequence[Analysed]], pairs: Mapping[str, Sequence[Pair]]
) -> Rows:
    rows: dict[str, dict[str, Figure]] = {}
    valid = [pair for chosen in pairs.values() for pair in chosen]
    problems = {
        id(pair[1])
        for name in cases
        for pair, item in zip(pairs[name], analysed[name], strict=True)
        if item.check.problems
    }
    rows["runs with verbatim evidence and valid citations"] = {
        "share": share(valid, lambda _, item: id(item) not in problems)
    }
    rows["passing runs of tau-bench with a cause of high confidence"] = {
        "share": share(pairs[PASSING_SET], lambda _, item: item.high)
    }
    rows["passing runs of tau-bench with any claimed place"] = {
        "share": share(pairs[PASSING_SET], lambda _, item: item.claims)
    }
    with_errors = [
        (pair, item.cites_all_errors)
        for pair, item in zip(pairs[FAILING_SET], analysed[FAILING_SET], strict=True)
        if any(call["status"] == "failure" for call in pair[0].body["tool_calls"])
    ]
    cited = {id(pair[1]) for pair, cites in with_errors if cites}
    rows["failing runs of tau-bench with a tool error: all errors quoted"] = {
        "share": share([pair for pair, _ in with_errors], lambda _, item: id(item) in cited)
    }
    for name in (HAND_SET, ALGORITHM_SET, TRAIL_SET):
        deleted = [without_labelled_evidence(case) for case in cases[name]]
        again = _pairs(deleted, (analyse_case(case).prediction for case in deleted))
        rows[f"{name}: no claim"] = {"share": share(pairs[name], lambda _, item: not item.claims)}
        rows[f"{name}: no claim after the labelled steps are deleted"] = {
            "share": share(again, lambda _, item: not item.claims)
        }
    return rows


def _cost(items: Sequence[Analysed]) -> tuple[float, ...]:
    ms = np.array([item.ms for item in items])
    return (
        len(ms),
        float(np.median(ms)),
        float(np.quantile(ms, 0.95)),
        float(ms.max()),
        max(item.peak_kib for item in items),
    )
