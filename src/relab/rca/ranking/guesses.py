"""The value that ranking returns: steps that may have gone wrong first, each with the facts that decided."""

from __future__ import annotations

from dataclasses import dataclass

from relab.rca.evidence import Quotation
from relab.rca.ranking.turns import Turn

CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Guess:
    """One step that may have gone wrong first.

    Attributes:
        reasons: the facts that decided, each a sentence without its full stop.
        quotes: places of the run that show them; at least one.
        explains_error: whether executed code that this step wrote reported an error.
    """

    turn: Turn
    reasons: tuple[str, ...]
    quotes: tuple[Quotation, ...]
    explains_error: bool = False
