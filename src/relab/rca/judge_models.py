"""Models for the verdict of the judge (a language model) on a run, and for its cost.

The verdict is an additional part of the report. It does not replace relab's own ranking of the steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from pydantic import Field

from relab.rca.claims import CitedModel, Confidence, RcaModel
from relab.rca.judge_method import JudgeMethod

__all__ = ["JudgeCost", "JudgeDrop", "JudgeMethod", "JudgeVerdict", "JudgedStep", "SentenceJudgement", "add_costs"]


class JudgeDrop(StrEnum):
    """Why an answer of the judge (a language model), or the reason in an answer, was not used.

    - `invalid_answer`: the answer does not have the required form.
    - `wrong_code`: the answer does not repeat the check code, a digest that the prompt contains.
    - `unknown_step`: the answer names a step that the request did not ask about.
    - `repeated_step`: the answer names a step twice.
    - `too_long`, `quote_too_short`, `quote_not_verbatim`: the quotation in the answer is wrong.
    - `ungrounded_reason`: the run does not support the reason; only the reason is dropped.
    """

    INVALID_ANSWER = "invalid_answer"
    WRONG_CODE = "wrong_code"
    UNKNOWN_STEP = "unknown_step"
    REPEATED_STEP = "repeated_step"
    TOO_LONG = "too_long"
    QUOTE_TOO_SHORT = "quote_too_short"
    QUOTE_NOT_VERBATIM = "quote_not_verbatim"
    UNGROUNDED_REASON = "ungrounded_reason"


class JudgedStep(CitedModel):
    """A step that the judge (a language model) names as the first mistake.

    It cites the judge's verbatim quotation of the step or of a call of the step.
    """

    step_id: str
    step_name: str
    agent_name: str | None = None
    reason: str | None = Field(
        None,
        description="The judge's reason in a sentence; null if it gave none, or if it was dropped because the run does not support it.",
    )


class JudgeCost(RcaModel):
    """The cost of a judgement by a language model, and how much of the run and of the model's answers was not used.

    Answers from the cache (`cached_answers`) cost nothing. `dropped` counts answers that cannot be used.
    """

    model: str | None = Field(None, description="The name of the model; null if it is not known.")
    calls: int = Field(0, ge=0)
    cached_answers: int = Field(0, ge=0)
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)
    usd: float | None = Field(None, description="The cost of the calls; null if a price is not configured.")
    dropped: dict[JudgeDrop, int] = Field({}, description="Dropped answers, and dropped parts of answers, by reason.")
    steps_left_out: int = Field(0, ge=0, description="The most steps that one request left out to fit the context.")
    texts_cut: int = Field(0, ge=0, description="The most texts that one request shortened to fit the context.")
    texts_withheld: int = Field(
        0,
        ge=0,
        description="The most passages that one request withheld because they read like instructions to a model.",
    )

    def cost_line(self) -> str:
        """Return the model, the calls, the tokens and the cost in words, such as ` by gpt-4o: 2 calls, 210 tokens`."""
        cost = "" if not self.calls or self.usd is None else f", {self.usd:.4f} USD"
        cached = f", {self.cached_answers} stored answers" if self.cached_answers else ""
        calls = f"{self.calls} {'call' if self.calls == 1 else 'calls'}"
        by = "" if self.model is None else f" by {self.model}"
        return f"{by}: {calls}, {self.prompt_tokens + self.completion_tokens:,} tokens{cost}{cached}"

    def dropped_line(self) -> str:
        """Return the dropped answers in words, such as `1 x invalid_answer`; "" if none was dropped."""
        return ", ".join(f"{number} x {reason}" for reason, number in self.dropped.items())


def add_costs(costs: Iterable[JudgeCost]) -> JudgeCost:
    """Return the sum of several costs. `usd` is null if the price of a call is not known.

    `steps_left_out`, `texts_cut` and `texts_withheld` count parts of the run that a request did not show. They are not
    added up: the result has the largest value of each.
    """
    costs = list(costs)
    prices = [each.usd for each in costs if each.calls]
    dropped: Counter[JudgeDrop] = Counter()
    for each in costs:
        dropped.update(each.dropped)
    return JudgeCost(
        model=next((each.model for each in costs if each.model is not None), None),
        usd=None if None in prices else sum(price for price in prices if price is not None),
        dropped=dict(sorted(dropped.items())),
        **{
            name: sum(getattr(each, name) for each in costs)
            for name in ("calls", "cached_answers", "prompt_tokens", "completion_tokens")
        },
        **{
            name: max((getattr(each, name) for each in costs), default=0)
            for name in ("steps_left_out", "texts_cut", "texts_withheld")
        },
    )


class SentenceJudgement(JudgeCost):
    """Which behaviours (patterns) a language model looked for in a run, and the cost; not which ones it found.

    A model looks only for behaviours that a rule describes by a sentence.
    """

    judged: tuple[str, ...] = Field(
        (), description="The behaviours that were judged, whether the run shows them or not."
    )
    not_judged: dict[str, str] = Field(
        {}, description="The behaviours that were not judged, each with the reason. The run may show them or not."
    )

    def reasons(self) -> tuple[str, ...]:
        """Return one line for each reason why behaviours (patterns) were not judged.

        An example, for the behaviours `rude` and `vague`, is `rude, vague: a limit was reached`.
        """
        names: dict[str, list[str]] = {}
        for name, reason in self.not_judged.items():
            names.setdefault(reason, []).append(name)
        return tuple(f"{', '.join(each)}: {reason}" for reason, each in names.items())


class JudgeVerdict(JudgeCost):
    """The verdict of a language model (the judge): which step of a run went wrong first."""

    method: JudgeMethod
    steps: tuple[JudgedStep, ...] = Field(
        (), description="The step that the judge names; with the method `rerank`, its order of the candidates."
    )
    fallback: str | None = Field(
        None, description="Why the judge names no step, so that only the local ranking remains; null if it names one."
    )
    stated_confidence: Confidence | None = Field(
        None, description="What the model says of its own answer; it is neither measured nor a probability."
    )

    def sentence(self) -> str:
        """Return the verdict in words, on one line: method, model, cost, the named steps, and the dropped answers."""
        said = f"Judge ({self.method}{self.cost_line()}): {self._said()}"
        lost = self.dropped_line()
        return f"{said}. Dropped: {lost}." if lost else f"{said}."

    def _said(self) -> str:
        if not self.steps:
            return f"no step, because {self.fallback}; the local ranking remains"
        named = "; then ".join(
            f"{step.step_name} [{step.step_id}]{f' of {step.agent_name}' if step.agent_name else ''}"
            for step in self.steps
        )
        reason = self.steps[0].reason
        why = f": {reason.rstrip('.')}" if reason else ""
        return f"{named}{why} (the model calls its confidence {self.stated_confidence}; this is not a probability)"
