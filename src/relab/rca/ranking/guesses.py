"""The result of ranking as values: guesses and problems.

A guess is a step that may have gone wrong first, with the facts that decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relab.rca.evidence import PlacedStep, Quotation
from relab.rca.ranking.units import Unit, UnitKey

CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Odds:
    """The probability that a guess is right, for a run of a source on which a model was trained.

    Attributes:
        probability: the calibrated probability, from 0 to 1.
        right, all: how often such guesses were right on runs that were held out of the training: `right` of the `all`
            first guesses with a probability in the same range.
        stands_out: whether the report may single out this guess: the run has no gaps, and the probability reaches the
            threshold of the model (`StepModel.stands_out`).
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
        reasons: the facts that decided, each as a sentence without its full stop.
        quotes: the places of the run that show these facts; at least one.
        explains_error: whether this step wrote code that reported an error when it was executed.
        odds: how likely the guess is right; None if no model was trained on the source of the run.
    """

    placed: PlacedStep
    reasons: tuple[str, ...]
    quotes: tuple[Quotation, ...]
    explains_error: bool = False
    odds: Odds | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The opinion of a model of the run's source about one unit (step or tool call).

    Attributes:
        probability: the probability that the unit has a problem, from 0 to 1; it may be low.
        kind: the most probable kind of problem.
    """

    probability: float
    kind: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """The result of ranking a run.

    Attributes:
        guesses: at most `CANDIDATES` steps that may have gone wrong first, most likely first.
        agent: the agent that most likely made the first mistake, judged by all of its steps; None to take the agent of
            the first guess.
        problems: pairs `(step or tool call, kinds of its problems)` that a model of the source, or a rule, found.
        writers: `{key of a tool call or a failed step: step that wrote it}`.
        suspicions: `{key of a step or tool call: suspicion of the model}`; empty if no model was trained on the source.
        gaps: signs that steps of the run were not recorded, or that the run is from another harness; each is a sentence
            without its full stop.
    """

    guesses: tuple[Guess, ...] = ()
    agent: str | None = None
    problems: tuple[tuple[Unit, tuple[str, ...]], ...] = ()
    writers: Mapping[UnitKey, Unit] = field(default_factory=dict)
    suspicions: Mapping[UnitKey, Suspicion] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
