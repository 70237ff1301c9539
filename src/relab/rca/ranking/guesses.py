"""The result of ranking a run: guesses and problems.

A guess is a step that may have gone wrong first, with the reasons for the guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relab.rca.evidence import PlacedStep, Quotation
from relab.rca.ranking.units import Unit, UnitKey

CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Odds:
    """The probability that a guess (a step that may have gone wrong first) is right.

    Attributes:
        probability: the calibrated probability, from 0 to 1, of a model that was trained on runs of the same program as
            the ranked run.
        right: the number of the runs counted in `all` whose most likely guess was right.
        all: the number of test runs (held out of the training) whose most likely guess had a probability in the same
            range, such as 0.2 to 0.35, as `probability`.
        stands_out: whether the report may single out this guess. It is true if no parts of the run are missing and the
            probability is at least `StepModel.stands_out`.
    """

    probability: float
    right: int
    all: int
    stands_out: bool


@dataclass(frozen=True, slots=True)
class Guess:
    """A step that may have gone wrong first.

    Attributes:
        placed: the step.
        reasons: the facts behind the guess, each as a sentence without its full stop.
        quotes: quotations that show these facts; at least one.
        explains_error: whether a later step or call reports that the code or the call of this step failed.
        is_change: whether a successful tool call of this step changed something, such as an order.
        odds: how likely the guess is right; None if rules ranked the steps, because only trained models estimate it.
    """

    placed: PlacedStep
    reasons: tuple[str, ...]
    quotes: tuple[Quotation, ...]
    explains_error: bool = False
    is_change: bool = False
    odds: Odds | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The prediction of a ranking model for one unit (step or tool call).

    Attributes:
        probability: the probability that the unit has a problem, from 0 to 1; low for a unit that is probably right.
        kind: the most probable kind of problem.
    """

    probability: float
    kind: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """The result of ranking a run.

    Attributes:
        guesses: at most `CANDIDATES` steps that may have gone wrong first, most likely first.
        agent: the agent that most likely made the first mistake: its steps have the greatest sum of probabilities. None
            if it is not known, or if rules ranked the steps.
        problems: pairs `(step or tool call, kinds of its problems)`, found by a model or by rules.
        writers: `{key of a tool call or a failed step: the step whose output probably led to it}` (`writers_of`).
        suspicions: `{key of a step or tool call: prediction of the model}`; empty without a model.
        gaps: reasons not to trust the ranking, each as a sentence without its full stop. They are signs that steps of
            the run were not recorded, or that another program made the run than the training runs of the model.
    """

    guesses: tuple[Guess, ...] = ()
    agent: str | None = None
    problems: tuple[tuple[Unit, tuple[str, ...]], ...] = ()
    writers: Mapping[UnitKey, Unit] = field(default_factory=dict)
    suspicions: Mapping[UnitKey, Suspicion] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
