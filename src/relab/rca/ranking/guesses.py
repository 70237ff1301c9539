"""The values that ranking returns: steps that may have gone wrong first, each with the facts that decided, and problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relab.rca.evidence import PlacedStep, Quotation
from relab.rca.ranking.units import Unit, UnitKey

CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Odds:
    """How likely a guess is right, for a run of a source that a model was trained on.

    Attributes:
        probability: the calibrated probability, from 0 to 1.
        right, all: how many held-out first guesses with a probability like this were right, and how many there were.
        stands_out: whether the run has no gaps, and the probability reaches the threshold from which on a guess is singled out.
    """

    probability: float
    right: int
    all: int
    stands_out: bool


@dataclass(frozen=True, slots=True)
class Guess:
    """One step that may have gone wrong first.

    Attributes:
        placed: the step.
        reasons: the facts that decided, each a sentence without its full stop.
        quotes: places of the run that show them; at least one.
        explains_error: whether executed code that this step wrote reported an error.
        odds: how likely the guess is right; None for runs of a source that no model was trained on.
    """

    placed: PlacedStep
    reasons: tuple[str, ...]
    quotes: tuple[Quotation, ...]
    explains_error: bool = False
    odds: Odds | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a model of the run's source says about one unit, whether or not it finds a problem there.

    Attributes:
        probability: the probability that the unit has a problem, from 0 to 1.
        kind: the most probable kind of it.
    """

    probability: float
    kind: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """What ranking says about a run.

    Attributes:
        guesses: at most `CANDIDATES` steps that may have gone wrong first, most likely first.
        agent: the agent that most likely made the first mistake, over all of its steps; None to take that of the first guess.
        problems: pairs (unit, kinds of its problems) that a model of the source found.
        writers: the step that wrote a tool call or a failed step, by the key of the call or step.
        suspicions: what the model of the source says about each step and tool call, by its key; empty for other sources.
        gaps: signs that steps of the run were not recorded or that it is from another harness, each a sentence without its full stop.
    """

    guesses: tuple[Guess, ...] = ()
    agent: str | None = None
    problems: tuple[tuple[Unit, tuple[str, ...]], ...] = ()
    writers: Mapping[UnitKey, Unit] = field(default_factory=dict)
    suspicions: Mapping[UnitKey, Suspicion] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
