"""Rank the steps of a run by how likely each is the first mistake.

A trained model ranks them if there is one for the program that made the run. Otherwise, rules rank them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from relab.rca.evidence import PlacedStep, Quotation, RunView, field_text
from relab.rca.models import EvidenceKind
from relab.rca.ranking.gaps import MAX_GAPS, gaps_of
from relab.rca.ranking.guesses import CANDIDATES, Guess, Odds, Ranking, Suspicion
from relab.rca.ranking.model import RankingModels, SourceModel, StepModel, describe
from relab.rca.ranking.problem_rules import problems_by_rules, writers_of
from relab.rca.ranking.rules import rank_by_rules
from relab.rca.ranking.turns import MIN_TURNS, are_rankable, turns_of
from relab.rca.ranking.units import Unit, UnitKey, units_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_REASONS = 3
NOT_OPENED = "the run does not begin as other runs of its agents do"


def rank_run(view: RunView, models: RankingModels) -> Ranking:
    """Rank the steps of a run by how likely each is the first mistake, and find problems of steps and tool calls.

    Steps are ranked only if the run failed and its innermost steps have enough content (`are_rankable`). A model that
    was trained on runs of the same source (the program that made the run) ranks the steps and finds the problems.
    Without such a model, rules do both.
    """
    known, units = known_source(view, models)
    found, suspicions = _problems(view, known, units)
    problems = tuple((unit, kinds) for unit, kinds in found if _is_quotable(unit))
    writers = writers_of(view, units_of(view, with_calls=True)) if problems or suspicions else {}
    base = Ranking(problems=problems, writers=writers, suspicions=suspicions)
    turns = turns_of(view) if view.failed else ()
    if not are_rankable(turns, view.calls):
        return base
    gaps = gaps_of(view, turns)
    if known is None or known.steps is None:
        return replace(base, guesses=rank_by_rules(view, turns), gaps=gaps)
    if known.signature.is_opened(units) is False:
        # Its first step is missing, or another harness gave its agents the same names.
        gaps = (NOT_OPENED, *gaps)[:MAX_GAPS]
    guesses, agent = _ranked(view, known.steps, [unit for unit in units if not unit.is_call], is_complete=not gaps)
    return replace(base, guesses=guesses, agent=agent, gaps=gaps)


def quote_unit(unit: Unit) -> Quotation:
    """Return the beginning of the text of a unit (a step or a tool call), as a quotation that evidence can cite."""
    kind = EvidenceKind.TOOL_CALL if unit.is_call else EvidenceKind.STEP
    return Quotation(kind, unit.source, unit.field)


def known_source(view: RunView, models: RankingModels) -> tuple[SourceModel | None, tuple[Unit, ...]]:
    """Return the model for the run's source (the program that made it), and the units for this model.

    The units are the innermost steps and, for a model that reads tool calls, the tool calls. Return `(None, ())` if
    there is no model for this source, if the run has fewer than `MIN_TURNS` units, or if it is much longer than the
    training runs.
    """
    longest = max((model.signature.limit for model in models.sources), default=0)
    if len(view.steps) + len(view.calls) < MIN_TURNS or len(view.steps) > 2 * longest:
        return None, ()
    read: dict[bool, tuple[Unit, ...]] = {}
    for model in models.sources:
        if model.reads_calls not in read:
            read[model.reads_calls] = units_of(view, with_calls=model.reads_calls)
        units = read[model.reads_calls]
        if len(units) >= MIN_TURNS and model.signature.matches(view.run.agent_name, units):
            return model, units
    return None, ()


def _problems(
    view: RunView, model: SourceModel | None, units: tuple[Unit, ...]
) -> tuple[tuple[tuple[Unit, tuple[str, ...]], ...], dict[UnitKey, Suspicion]]:
    """Return `(problems, suspicions)` of the units (steps and tool calls) of a run.

    `problems` has `(unit, kinds of its problems)` for the units with a problem. `suspicions` is `{key of a unit:
    prediction of the model}` for all units with a text. If there is no model for problems, rules find the problems, and
    `suspicions` is empty.
    """
    if model is None or model.problems is None:
        return problems_by_rules(view, units_of(view, with_calls=True)), {}
    if not model.problems.kinds:
        return (), {}
    found, chances = model.problems.judge(model.problems.columns.table(units, view.run.answer))
    suspicions = {
        unit.key: Suspicion(chance, kind)
        for unit, (chance, kind) in zip(units, chances, strict=True)
        if _is_quotable(unit)
    }
    return tuple((units[row], kinds) for row, kinds in found), suspicions


def _is_quotable(unit: Unit) -> bool:
    """Return whether a unit (a step or a tool call) has a text that evidence can quote."""
    return bool(field_text(unit.source, unit.field))


def _ranked(
    view: RunView, model: StepModel, steps: Sequence[Unit], *, is_complete: bool
) -> tuple[tuple[Guess, ...], str | None]:
    """Return `(guesses, agent)`, by a trained model.

    `guesses` are the steps that are most likely the first mistake, at most `CANDIDATES`. `agent` is the agent that most
    likely made it: its steps have the greatest sum of probabilities. It is None if these steps name no agent.
    `is_complete` is false if the run has gaps; then no guess stands out.
    """
    table = model.columns.table(steps, view.run.answer)
    shares = model.shares(table)
    quotable = [row for row, unit in enumerate(steps) if _is_quotable(unit)]
    order = sorted(quotable, key=lambda row: -shares[row])[:CANDIDATES]
    guesses = tuple(_guess(model, steps[row], table, row, float(shares[row]), is_complete=is_complete) for row in order)
    by_agent: defaultdict[str | None, float] = defaultdict(float)
    for unit, share in zip(steps, shares, strict=True):
        by_agent[unit.agent_name] += float(share)
    best = max(by_agent, key=lambda agent: by_agent[agent])
    return guesses, best


def _guess(
    model: StepModel, unit: Unit, table: NDArray[np.float64], row: int, share: float, *, is_complete: bool
) -> Guess:
    assert isinstance(unit.place, PlacedStep)
    probability = model.calibration.probability(share)
    right, count = model.calibration.hit_rate(probability)
    names = model.reasons(table, row, MAX_REASONS)
    reasons = tuple(dict.fromkeys(describe(name) for name in names)) or ("its place in the run",)
    # A step that was not recorded cannot be chosen, and the shares of the other steps are computed as if it did not
    # exist.
    odds = Odds(round(probability, 3), right, count, is_complete and probability >= model.stands_out)
    return Guess(unit.place, reasons, (quote_unit(unit),), odds=odds)
