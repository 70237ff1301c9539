"""Measure how often a run is recognised as from its own source, and how often as from another source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from evals.rca.cases import Case
from evals.rca.figures import Figure, share
from evals.rca.predictions import Prediction
from evals.rca.training import SOURCES
from relab.rca.evidence import RunView
from relab.rca.ranking import RankingModels, SourceModel
from relab.rca.ranking.ranker import known_source


def source_of(case: Case, models: RankingModels) -> str | None:
    """Return the source whose model among `models` recognises the run of a case; None if no model does."""
    model, _ = known_source(RunView(case.run), models)
    return None if model is None else model.source


def recognition_rows(
    cases: Mapping[str, Sequence[Case]],
    held: Mapping[str, Iterable[tuple[Case, bool]]],
    models: Mapping[str, SourceModel],
) -> dict[str, dict[str, Figure]]:
    """Return the figures of recognition.

    Args:
        cases: the cases of all sets by name.
        held: per set the held-out cases, and whether the model of the other folds recognised each.
        models: per set the model that was trained on all of it.
    """
    rows = {}
    for name, found in held.items():
        rows[f"{name}: recognised as its source, held out"] = {"share": _share(found)}
    for name, chosen in cases.items():
        others = RankingModels(sources=tuple(model for other, model in models.items() if other != name))
        taken = [(case, source_of(case, others) is not None) for case in chosen]
        label = "the source of another set" if name in SOURCES else "the source of a set"
        rows[f"{name}: taken for {label}"] = {"share": _share(taken)}
    return rows


def _share(found: Iterable[tuple[Case, bool]]) -> Figure:
    pairs = [(case, Prediction(claims=is_one)) for case, is_one in found]
    return share(pairs, lambda _, item: item.claims)
