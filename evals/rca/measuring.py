"""Measure the analyser beside the trivial rules on all sets.

It is measured twice: without a model, as for an unknown source, and with models trained on the other folds, in which no
question of the held-out runs occurs. Penalty, thresholds and calibration of such a model come from its training folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from evals.rca.cases import (
    ALGORITHM_SET,
    FAILING_SET,
    HAND_SET,
    MESSAGES_SET,
    PASSING_SET,
    TRAIL_SET,
    Case,
    renumbered,
    without_labelled_evidence,
)
from evals.rca.figures import (
    Bin,
    Figure,
    Pair,
    calibration_error,
    debiased_calibration_error,
    is_agent,
    is_in_top_three,
    is_step,
    is_within_one,
    locate,
    macro_f1,
    most_certain,
    reliability,
    share,
)
from evals.rca.passing import compare_trials, passing_rows
from evals.rca.predictions import Analysed, Prediction, analyse_case, predict_trace
from evals.rca.recognition import recognition_rows, source_of
from evals.rca.rules import SPAN_RULES, STEP_RULES
from evals.rca.training import SEEDS, examples, held_out, learning_curve, train_set
from relab.rca.ranking import RankingModels, SourceModel
from relab.rca.ranking.fitting import Example

RULES = "relab, source not known"
TRAINED = "relab, held out, source known"
FORCED = "relab, model of the other set forced"
AS_OTLP = "sent as OTLP"
NO_MODELS = RankingModels()
CURVE = (20, 50, 100)
Rows: TypeAlias = Mapping[str, Mapping[str, Figure]]


@dataclass(frozen=True)
class Measured:
    """All figures of one evaluation.

    Attributes:
        steps: per set of conversations its name and the figures of each method.
        spans: the figures of located spans by method.
        macro: per method the mean F1 over TRAIL's categories.
        controls: evidence, false alarms and abstention.
        reliability: per set its name, its reliability table, and three calibration errors: of that table, of five bins
            of equal size, and without the part that chance adds.
        curves: per set the figures by number of labelled runs.
        cost: per set (n, median ms, 95 % ms, max ms, max KiB).
        passing: per set of tau-bench how often the comparison with passing trials finds each kind of difference.
        problems: violated guarantees of quotations and citations, one sentence each.
    """

    steps: Sequence[tuple[str, Rows]]
    spans: Rows
    macro: Mapping[str, float]
    controls: Rows
    reliability: Sequence[tuple[str, Sequence[Bin], tuple[float, float, float]]]
    curves: Sequence[tuple[str, Rows]]
    cost: Sequence[tuple[str, tuple[float, ...]]]
    passing: Rows
    problems: Sequence[str]


@dataclass(frozen=True)
class Held:
    """Predictions of models for cases outside their training sets, and for the same cases without their labelled steps.

    Attributes:
        renumbered: the predictions for the conversations without their labelled steps, with ids that show no gap.
        recognised: the cases, and whether the model recognised them as runs of its source.
        traced: the predictions for the runs that the mapper makes of the traces; empty for sets without traces.
    """

    analysed: Sequence[tuple[Case, Analysed]]
    deleted: Sequence[Pair]
    renumbered: Sequence[Pair]
    top_spans: Sequence[Pair]
    recognised: Sequence[tuple[Case, bool]]
    traced: Sequence[Pair]

    @property
    def pairs(self) -> list[Pair]:
        """The cases with their predictions."""
        return [(case, item.prediction) for case, item in self.analysed]


@dataclass(frozen=True)
class _Trained:
    """Models that were trained on the sets with labels, and their predictions, by the name of the set.

    Attributes:
        held: the predictions of models for cases outside their training sets.
        forced: the predictions of the model of the other set of conversations, as if it were of the same source.
        whole: the model that is trained on the whole set.
        curves: per set of conversations its name and the figures by number of labelled runs.
    """

    held: Mapping[str, Held]
    forced: Mapping[str, Sequence[Pair]]
    whole: Mapping[str, SourceModel]
    curves: Sequence[tuple[str, Rows]]


def measure(
    cases: Mapping[str, Sequence[Case]],
    tick: Callable[[str], None] = lambda _: None,
    seeds: Sequence[int] = SEEDS,
    curve: Sequence[int] = CURVE,
) -> Measured:
    """Analyse all cases and count; `tick` is called with a word before each part.

    `seeds` are the seeds of the splits, `curve` the numbers of labelled runs of the learning curve.
    """
    analysed = _analyse_all(cases, tick)
    pairs = {name: _pairs(cases[name], (item.prediction for item in analysed[name])) for name in cases}
    trained = _train(cases, tick, seeds, curve)
    held = trained.held
    tick("controls")
    compared = compare_trials(cases)
    conversations = (HAND_SET, ALGORITHM_SET)
    everything = [*(item for items in analysed.values() for item in items)]
    everything += [item for part in held.values() for _, item in part.analysed]
    return Measured(
        steps=[
            (
                name,
                _step_rows(cases[name], {RULES: pairs[name], FORCED: trained.forced[name], TRAINED: held[name].pairs}),
            )
            for name in conversations
        ]
        + [(name, _step_rows(cases[name], {RULES: pairs[name]})) for name in (FAILING_SET, MESSAGES_SET)],
        spans=_span_rows(
            cases[TRAIL_SET],
            {
                RULES: pairs[TRAIL_SET],
                f"{RULES}, {AS_OTLP}": [(case, predict_trace(case, NO_MODELS)) for case in cases[TRAIL_SET]],
                f"{RULES}, guesses only": _guessed(pairs[TRAIL_SET]),
                TRAINED: held[TRAIL_SET].pairs,
                f"{TRAINED}, {AS_OTLP}": held[TRAIL_SET].traced,
                f"{TRAINED}, guesses only": _guessed(held[TRAIL_SET].pairs),
            },
        ),
        macro={RULES: macro_f1(pairs[TRAIL_SET]), TRAINED: macro_f1(held[TRAIL_SET].pairs)},
        controls={
            **_controls(cases, analysed, pairs, held),
            **recognition_rows(cases, {name: part.recognised for name, part in held.items()}, trained.whole),
        },
        reliability=[
            (name, table, (error, calibration_error(held[name].pairs), debiased_calibration_error(held[name].pairs)))
            for name in conversations
            for table, error in [reliability(held[name].pairs)]
        ],
        curves=trained.curves,
        cost=[
            *((name, _cost(items)) for name, items in analysed.items()),
            *((f"{name}, with a model", _cost([item for _, item in part.analysed])) for name, part in held.items()),
        ],
        passing=passing_rows(compared),
        problems=[
            *(problem for item in everything for problem in item.check.problems),
            *(problem for found in compared.values() for *_, check in found for problem in check.problems),
        ],
    )


def _analyse_all(cases: Mapping[str, Sequence[Case]], tick: Callable[[str], None]) -> dict[str, list[Analysed]]:
    """Analyse all cases without a model, as runs of an unknown source."""
    analysed: dict[str, list[Analysed]] = {}
    for name, chosen in cases.items():
        tick(f"{name}: source not known")
        analysed[name] = [
            analyse_case(case, NO_MODELS, trace_memory=index % 10 == 0) for index, case in enumerate(chosen)
        ]
    return analysed


def _train(
    cases: Mapping[str, Sequence[Case]], tick: Callable[[str], None], seeds: Sequence[int], curve: Sequence[int]
) -> _Trained:
    """Train models on the sets with labels, and analyse cases with them; the arguments are those of `measure`."""
    held: dict[str, Held] = {}
    forced: dict[str, list[Pair]] = {}
    whole: dict[str, SourceModel] = {}
    curves: list[tuple[str, Rows]] = []
    for name in (HAND_SET, ALGORITHM_SET, TRAIL_SET):
        tick(f"{name}: cross-validation")
        found = examples(cases[name])
        held[name] = _held(name, cases[name], found, seeds)
        whole[name] = train_set(name, found)
        if name == TRAIL_SET:
            continue
        if curve:
            tick(f"{name}: learning curve")
            curves.append((name, _curve(name, cases[name], found, seeds, curve)))
        other = ALGORITHM_SET if name == HAND_SET else HAND_SET
        agents = sorted({case.body["agent_name"] for case in cases[name]})
        model = RankingModels(sources=(train_set(other, examples(cases[other]), agents),))
        forced[name] = _pairs(cases[name], (analyse_case(case, model).prediction for case in cases[name]))
    return _Trained(held, forced, whole, curves)


def _guessed(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the predictions without the findings of detectors."""
    return [(case, replace(found, spans=found.guessed_spans)) for case, found in pairs]


def _held(name: str, cases: Sequence[Case], found: Sequence[Example], seeds: Sequence[int]) -> Held:
    analysed: list[tuple[Case, Analysed]] = []
    deleted: list[Pair] = []
    without_gaps: list[Pair] = []
    top: list[Pair] = []
    recognised: list[tuple[Case, bool]] = []
    traced: list[Pair] = []
    for part in held_out(name, found, seeds):
        for index in part.cases:
            case = cases[index]
            is_traced = part.seed == seeds[0] and index % 10 == 0
            analysed.append((case, analyse_case(case, part.models, trace_memory=is_traced)))
            recognised.append((case, source_of(case, part.models) is not None))
            if part.seed == seeds[0]:
                again = without_labelled_evidence(case)
                deleted.append((again, analyse_case(again, part.models).prediction))
                if name != TRAIL_SET:
                    other = renumbered(again)
                    without_gaps.append((other, analyse_case(other, part.models).prediction))
            if name == TRAIL_SET:
                top.append((case, _top_span(found[index], part.models)))
                traced.append((case, predict_trace(case, part.models)))
    return Held(analysed, deleted, without_gaps, top, recognised, traced)


def _top_span(example: Example, models: RankingModels) -> Prediction:
    """Return the span of a trace that most likely has a problem, with the probability that the model gives it."""
    (model,) = models.sources
    if model.problems is None or not example.units:
        return Prediction()
    chances = model.problems.chances(model.problems.columns.table(example.units, None))
    best = int(chances.argmax())
    return Prediction(steps=(example.units[best].unit_id,), probability=float(chances[best]))


def _is_labelled_span(case: Case, found: Prediction) -> bool:
    return any(span in found.steps for span, _ in case.truth.spans)


def _curve(
    name: str, cases: Sequence[Case], found: Sequence[Example], seeds: Sequence[int], sizes: Sequence[int]
) -> Rows:
    parts: dict[int, list[Pair]] = {}
    for size, part in learning_curve(name, found, sizes, seeds):
        made = ((cases[index], analyse_case(cases[index], part.models).prediction) for index in part.cases)
        parts.setdefault(size, []).extend(made)
    return {f"{size} labelled runs": step_row(pairs) for size, pairs in parts.items()}


def _pairs(cases: Sequence[Case], predictions: Iterable[Prediction]) -> list[Pair]:
    return list(zip(cases, predictions, strict=True))


def _step_rows(cases: Sequence[Case], found: Mapping[str, Sequence[Pair]]) -> Rows:
    methods = {name: _pairs(cases, (rule(case.run) for case in cases)) for name, rule in STEP_RULES.items()}
    return {name: step_row(pairs) for name, pairs in {**methods, **found}.items()}


def step_row(pairs: Sequence[Pair]) -> dict[str, Figure]:
    """Return the figures of the first mistake for predictions of one method."""
    return {
        "step": share(pairs, is_step),
        "step ±1": share(pairs, is_within_one),
        "top 3": share(pairs, is_in_top_three),
        "agent": share(pairs, is_agent),
        "names a step": share(pairs, lambda _, item: bool(item.steps)),
        "step, surer half": share(most_certain(pairs), is_step),
    }


def _span_rows(cases: Sequence[Case], found: Mapping[str, Sequence[Pair]]) -> Rows:
    methods = {name: _pairs(cases, (rule(case.run) for case in cases)) for name, rule in SPAN_RULES.items()}
    rows = {}
    for name, pairs in {**methods, **found}.items():
        place, kind = locate(pairs, with_category=False), locate(pairs, with_category=True)
        rows[name] = {
            "precision": place.precision,
            "recall": place.recall,
            "F1": place.f1,
            "precision span and category": kind.precision,
            "recall span and category": kind.recall,
            "F1 span and category": kind.f1,
        }
    return rows


def _controls(
    cases: Mapping[str, Sequence[Case]],
    analysed: Mapping[str, Sequence[Analysed]],
    pairs: Mapping[str, Sequence[Pair]],
    held: Mapping[str, Held],
) -> Rows:
    rows: dict[str, dict[str, Figure]] = {}
    checked = [*(pair for name in cases for pair in zip(cases[name], analysed[name], strict=True))]
    checked += [pair for part in held.values() for pair in part.analysed]
    invalid = {id(item.prediction) for _, item in checked if item.check.problems}
    rows["runs with verbatim evidence and valid citations"] = {
        "share": share([(case, item.prediction) for case, item in checked], lambda _, item: id(item) not in invalid)
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
    for name, part in held.items():
        rows[f"{name}: no claim"] = {"share": share(part.pairs, lambda _, item: not item.claims)}
        rows[f"{name}: no claim after the labelled steps are deleted"] = {
            "share": share(part.deleted, lambda _, item: not item.claims)
        }
        if name == TRAIL_SET:
            rows[f"{name}: the first span is labelled"] = {"share": share(part.top_spans, _is_labelled_span)}
            rows[f"{name}: the first span is labelled, surer half"] = {
                "share": share(most_certain(part.top_spans), _is_labelled_span)
            }
        else:
            chosen = [pair for pair in part.pairs if pair[1].stands_out]
            rows[f"{name}: a guess stands out"] = {"share": share(part.pairs, lambda _, item: item.stands_out)}
            rows[f"{name}: the guess that stands out is right"] = {"share": share(chosen, is_step)}
            rows[f"{name}: no guess stands out after the labelled steps are deleted"] = {
                "share": share(part.deleted, lambda _, item: not item.stands_out)
            }
            rows[f"{name}: the same, and the ids show no gap"] = {
                "share": share(part.renumbered, lambda _, item: not item.stands_out)
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
