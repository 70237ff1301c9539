"""Ranking: which step of a failed run first went wrong, where no error says it.

In: a `RunView`. Out: at most three guesses with the facts that decided. `rules.py` ranks runs of any source.
"""

from relab.rca.ranking.guesses import CANDIDATES, Guess
from relab.rca.ranking.ranker import rank_turns

__all__ = ["CANDIDATES", "Guess", "rank_turns"]
