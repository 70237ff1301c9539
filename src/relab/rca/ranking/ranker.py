"""Rank the turns of a failed run."""

from __future__ import annotations

from relab.rca.evidence import RunView
from relab.rca.ranking.guesses import Guess
from relab.rca.ranking.rules import rank_by_rules
from relab.rca.ranking.turns import are_rankable, turns_of


def rank_turns(view: RunView) -> tuple[Guess, ...]:
    """Return the turns that may have gone wrong first; none if the run did not fail or has fewer than three texts."""
    if not view.failed:
        return ()
    turns = turns_of(view)
    if not are_rankable(turns):
        return ()
    return rank_by_rules(turns)
