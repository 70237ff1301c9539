"""Convert the scores of a sample of Inspect to numbers, and decide by them whether the sample is a success."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from relab.experiments.inspect_logs.errors import InspectLogError
from relab.experiments.inspect_logs.logs import InspectSample, clean, text_of
from relab.experiments.models import TrialOutcome

PREFIX: Final = "score."
"""The beginning of the name of a metric that is a score, as in `score.includes`."""
NO_SCORE: Final = "no_score"
_WORDS: Final = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


@dataclass(frozen=True)
class Judged:
    """The outcome of a sample, and the type and the message of the error if the outcome is an error."""

    outcome: TrialOutcome
    error_type: str | None = None
    message: str | None = None


def number_of(value: Any) -> float | None:
    """Convert the value of a score to a number, as Inspect's metrics do.

    C, yes and true are 1, P is 0.5, and I, N, no and false are 0. Return None for any other text that is not a number,
    for infinities, for integers beyond 64 bits, and for NaN (Inspect's value of an unscored sample).
    """
    if isinstance(value, str):
        known = _WORDS.get(value, _WORDS.get(value.lower()) if len(value) > 1 else None)
        if known is not None:
            return known
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, (int, float)):
        found = float(value) if abs(value) < 2**63 or isinstance(value, float) else math.inf
        return found if math.isfinite(found) else None
    return None


def scores_of(sample: InspectSample) -> dict[str, float]:
    """Return the numeric scores of a sample as `{name: score}`.

    A score has the name of its scorer. If a scorer gives several values, each value has the name `scorer.key`.
    """
    found: dict[str, float] = {}
    for scorer, score in _scores(sample).items():
        value = score.get("value") if isinstance(score, dict) else None
        parts = {f"{scorer}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {scorer: value}
        found |= {name: number for name, item in parts.items() if (number := number_of(item)) is not None}
    return found


def judge(sample: InspectSample, scorer: str | None, success_at: float) -> Judged:
    """Return the outcome of a sample.

    The first case that applies decides:

    1. The sample has an error: ERROR.
    2. The sample has a score: SUCCESS if the score is at least `success_at`, else FAILURE.
    3. The sample was ended by a limit that Inspect enforces: ERROR.
    4. Otherwise: MISSING.

    Args:
        sample: the sample.
        scorer: the name of the score that decides, as in `scores_of`; None if the log has no scorer.
        success_at: the smallest value of a success.

    Raises:
        InspectLogError: `scorer` names a scorer that gives several values; the message says how to choose one.
    """
    error = sample.document.get("error")
    if isinstance(error, dict):
        message = clean(text_of(error.get("message")))
        return Judged(TrialOutcome.ERROR, error_class(message), message)
    number = scores_of(sample).get(scorer) if scorer is not None else None
    if number is not None:
        return Judged(TrialOutcome.SUCCESS if number >= success_at else TrialOutcome.FAILURE)
    raw = _scores(sample).get(scorer or "")
    if isinstance(raw, dict) and isinstance(raw.get("value"), dict):
        keys = ", ".join(f"{scorer}.{key}" for key in raw["value"])
        raise InspectLogError(
            f"The scorer {scorer!r} gives several values.", remedy=f"Choose one with --scorer: {keys}."
        )
    limit = sample.section("limit")
    if limit:
        return Judged(TrialOutcome.ERROR, f"{clean(str(limit.get('type')))[:100]}_limit", "the sample reached a limit")
    missing = "the log has no scorer" if scorer is None else f"the sample has no score of {scorer!r}"
    return Judged(TrialOutcome.MISSING, NO_SCORE, missing)


def error_class(message: str) -> str:
    """Return the class of an exception from a message such as `ValueError('x')`; else `sample_error`."""
    name = message.partition("(")[0]
    return name[:200] if name.isidentifier() and message != name else "sample_error"


def _scores(sample: InspectSample) -> Mapping[str, Any]:
    scores = sample.section("scores")
    if scores:
        return scores
    # Log version 1 had one score without the name of its scorer.
    score = sample.document.get("score")
    return {"score": score} if isinstance(score, dict) else {}
