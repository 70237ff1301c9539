"""The methods of the judge: the ways to ask a language model which step of a run went wrong first.

Each method returns the steps that the model names, with quotations.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from string import Template
from typing import Any, Final

from relab.llm import Prompt, prompt_text
from relab.rca.judge.answers import (
    DroppedAnswerError,
    HalfAnswer,
    JudgeAnswer,
    MistakeAnswer,
    Opinion,
    OrderAnswer,
    Pick,
    StepAnswer,
    check_quote,
    grounded_reason,
)
from relab.rca.judge.session import AnswerT, CheckedT, JudgeSession
from relab.rca.judge.transcript import ShownStep, Transcript
from relab.rca.judge_models import JudgeDrop, JudgeMethod
from relab.rca.models import Confidence

MIN_CANDIDATES: Final = 2


class JudgeRun:
    """Asks a language model which step of one run went wrong first, by one method of `JudgeMethod`.

    Args:
        transcript: the steps of the run; at least one.
        session: sends the requests to the model.
        candidates: the numbers of the steps that the report names as possible mistakes, most likely first.

    Attributes:
        left_out: the number of steps that were left out of a prompt; the maximum over all prompts.
        cut: the number of texts that were cut in a prompt; the maximum over all prompts.
        withheld: the number of passages that were left out of a prompt because they read like instructions to the
            model; the maximum over all prompts.
    """

    def __init__(self, transcript: Transcript, session: JudgeSession, candidates: Sequence[int]) -> None:
        self._transcript = transcript
        self._session = session
        self._candidates = candidates
        self.left_out = self.cut = self.withheld = 0

    def all_at_once(self) -> Opinion:
        """Ask in one request, with the whole run, which step went wrong first.

        Raises:
            DroppedAnswerError: the answer is not valid.
            JudgeLimitError: the time for requests about this run is over, or no step fits a prompt.
            LlmError: the model gave no answer, or the budget is spent.
        """
        steps = self._transcript.steps

        def check(answer: StepAnswer, shown: frozenset[int]) -> Opinion:
            if answer.step is None:
                return Opinion((), Confidence(answer.confidence))
            return self._opinion([self._pick(answer.step, answer.quote, answer.reason, shown)], answer)

        return self._ask("all_at_once", StepAnswer, check, range(len(steps)), self._candidates)

    def step_by_step(self) -> Opinion:
        """Ask for each step in turn whether it is the first mistake, until the model says yes.

        Each step is shown with the steps before it.

        Raises:
            DroppedAnswerError: an answer is not valid.
            JudgeLimitError: the time for requests about this run is over, or no step fits a prompt.
            LlmError: the model gave no answer, or the budget is spent.
        """

        def check(answer: MistakeAnswer, shown: frozenset[int], number: int) -> Opinion | None:
            if not answer.is_first_mistake:
                return None
            return self._opinion([self._pick(number, answer.quote, answer.reason, shown)], answer)

        for step in self._transcript.steps:
            number = step.number
            asked = functools.partial(check, number=number)
            found = self._ask("step_by_step", MistakeAnswer, asked, range(number + 1), (number,), newest_step=number)
            if found is not None:
                return found
        return Opinion((), None)

    def binary_search(self) -> Opinion:
        """Ask which half of the steps has the first mistake, and halve the named half again until one step is left.

        Raises:
            DroppedAnswerError: an answer is not valid.
            JudgeLimitError: the time for requests about this run is over, or no step fits a prompt.
            LlmError: the model gave no answer, or the budget is spent.
        """
        low, high = 0, len(self._transcript.steps) - 1
        if low == high:
            return self.all_at_once()
        opinion = Opinion((), None)
        while low < high:
            first = (low, (low + high) // 2)
            second = (first[1] + 1, high)

            def check(
                answer: HalfAnswer,
                shown: frozenset[int],
                halves: Mapping[str, tuple[int, int]],
            ) -> tuple[tuple[int, int], Opinion]:
                half = halves[answer.half]
                steps = [self._transcript.steps[number] for number in range(half[0], half[1] + 1) if number in shown]
                step, _ = check_quote(tuple(steps), answer.quote)
                return half, self._opinion([self._pick(step.number, answer.quote, answer.reason, shown)], answer)

            (low, high), opinion = self._ask(
                "binary_search",
                HalfAnswer,
                functools.partial(check, halves={"first": first, "second": second}),
                range(low, high + 1),
                (),
                first_half=first,
                second_half=second,
            )
        return opinion

    def rerank(self) -> Opinion:
        """Ask the model to put the candidate steps in order; the most likely first mistake comes first.

        There must be at least two candidates. The model may leave candidates out.

        Raises:
            DroppedAnswerError: the answer is not valid.
            JudgeLimitError: the time for requests about this run is over, or no step fits a prompt.
            LlmError: the model gave no answer, or the budget is spent.
        """

        def check(answer: OrderAnswer, shown: frozenset[int]) -> Opinion:
            if not answer.order:
                return Opinion((), Confidence(answer.confidence))
            if len({ranked.step for ranked in answer.order}) < len(answer.order):
                raise DroppedAnswerError(JudgeDrop.REPEATED_STEP)
            allowed = shown & set(self._candidates)
            picks = [self._pick(ranked.step, ranked.quote, ranked.reason, allowed) for ranked in answer.order]
            return self._opinion(picks, answer)

        numbers = range(len(self._transcript.steps))
        candidates = list(self._candidates)
        return self._ask("rerank", OrderAnswer, check, numbers, candidates, candidates=candidates)

    def _ask(
        self,
        name: str,
        schema: type[AnswerT],
        check: Callable[[AnswerT, frozenset[int]], CheckedT],
        numbers: Sequence[int],
        anchors: Collection[int],
        **facts: Any,
    ) -> CheckedT:
        excerpt = self._transcript.excerpt(numbers, anchors, **facts)
        self.left_out = max(self.left_out, excerpt.left_out)
        self.cut = max(self.cut, excerpt.cut)
        self.withheld = max(self.withheld, excerpt.withheld)
        self._session.require_steps(excerpt.shown)
        prompt, code = build_prompt(name, excerpt.data)
        return self._session.ask(prompt, code, schema, lambda answer: check(answer, excerpt.shown))

    def _pick(self, number: int, quote: str, reason: str, allowed: frozenset[int]) -> Pick:
        if number not in allowed:
            raise DroppedAnswerError(JudgeDrop.UNKNOWN_STEP)
        step, quotation = check_quote((self._transcript.steps[number],), quote)
        return Pick(step, quotation, self._reason(step, reason))

    def _reason(self, step: ShownStep, reason: str) -> str | None:
        if not reason.strip():
            return None
        shown = grounded_reason(self._transcript, step, reason)
        if shown is None:
            self._session.dropped[JudgeDrop.UNGROUNDED_REASON] += 1
        return shown

    @staticmethod
    def _opinion(picks: Sequence[Pick], answer: JudgeAnswer) -> Opinion:
        return Opinion(tuple(picks), Confidence(answer.confidence))


METHODS: Final[Mapping[JudgeMethod, Callable[[JudgeRun], Opinion]]] = {
    JudgeMethod.ALL_AT_ONCE: JudgeRun.all_at_once,
    JudgeMethod.STEP_BY_STEP: JudgeRun.step_by_step,
    JudgeMethod.BINARY_SEARCH: JudgeRun.binary_search,
    JudgeMethod.RERANK: JudgeRun.rerank,
}


def build_prompt(name: str, data: str) -> tuple[Prompt, str]:
    """Return `(prompt, check code)` for the judge (a language model) to examine `data`, an excerpt of a run.

    `name` is the method of the judge, such as `all_at_once` (find the first mistake among all steps at once).

    The check code is a digest of `name` and `data`. The prompt contains the code, and the model's answer must repeat
    it. Equal arguments give equal prompts.
    """
    # A digest of the data cannot occur in the data, so no text of the run can forge it.
    code = hashlib.sha256(f"{name}\0{data}".encode()).hexdigest()[:32]
    rules, task = (prompt_text("rca", file) for file in ("judge.system.txt", f"judge_{name}.txt"))
    user = Template(prompt_text("rca", "judge.user.txt")).substitute(code=code, run=data)
    return Prompt(system=f"{rules}\n{task}", user=user), code


def prompt_overhead() -> int:
    """Return the number of characters of a prompt without the excerpt of the run; the maximum over all methods."""
    return max(
        len(prompt.system) + len(prompt.user) for prompt, _ in (build_prompt(method.value, "") for method in METHODS)
    )
