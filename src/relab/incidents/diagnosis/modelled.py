"""An investigation with a language model as a second opinion. What decides is the rules' posterior; the model's word moves it a little.

The rules investigate first. Where they are not sure, a model is given the same evidence, and may ask for some more looks. It can
name a cause of the runbooks in use, and nothing else of what it says is heard. Whatever it does wrong, the rules' answer stands.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate
from relab.incidents.diagnosis.investigation import InvestigationSettings, Investigator, Known, Take, Thought
from relab.incidents.diagnosis.modelled_answers import (
    ModelAnswer,
    Refusal,
    raised,
    refuse_cause,
    refuse_form,
    refuse_looks,
)
from relab.incidents.diagnosis.modelled_prompt import MOST_CAUSES, Case, build_prompt, sent_evidence
from relab.incidents.looks.catalogue import LOOKS
from relab.knowledge.models import FactValue, Runbook
from relab.llm import LlmError, Prompt


class AskWhen(StrEnum):
    """At which incidents a model is asked."""

    NEVER = "never"
    UNSURE = "unsure"
    """Where the rules are not sure."""
    ALWAYS = "always"
    """Where they are sure, too; what it says there is written down and changes nothing."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """When a model is asked, and what an incident may have it cost.

    Attributes:
        most_rounds: how often it may ask for looks, in one diagnosis.
        together: how many looks at once.
        most_calls, most_tokens, most_s: for one incident, in all its diagnoses and over restarts.
        call_s: for one call, retries included.
        answer_tokens: the most that an answer takes; so many are reserved before each call.
    """

    when: AskWhen = AskWhen.NEVER
    most_rounds: int = 2
    together: int = 4
    most_calls: int = 6
    most_tokens: int = 200_000
    most_s: float = 60.0
    call_s: float = 20.0
    answer_tokens: int = 1_024


class Model(Protocol):
    """A model that is asked about one incident, within what that may cost, and where what comes of it is told."""

    async def ask(self, prompt: Prompt) -> ModelAnswer:
        """Return its answer; whether it was asked, and what that cost, is told.

        Raises:
            LlmError: there is none, or the budget does not cover the call.
        """
        ...

    async def tell(self, kind: str, message: str, content: Mapping[str, Any], evidence: Sequence[str] = ()) -> None:
        """Write down what has come of an answer."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen and remembered beside facts.

    Attributes:
        usual: medians of figures while all was well.
        memory: by cause, the factor by which past incidents raise its prior.
        templates: of log lines, with their counts.
        onset: which kind of signals was the first.
        mended: causes that were repaired in this incident.
    """

    usual: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    templates: Mapping[str, int] = field(default_factory=dict)
    onset: FactValue | None = None
    mended: frozenset[str] = frozenset()


class ModelledInvestigator(Investigator):
    """Investigates one incident by rules, and asks a model where they leave a doubt.

    Args:
        take: takes looks.
        runbooks: of all causes that are known.
        model: that is asked.
        seen: beside facts.
        settings: when enough was seen.
        asking: when the model is asked.
    """

    def __init__(
        self,
        take: Take,
        runbooks: Sequence[Runbook],
        model: Model,
        *,
        seen: Seen,
        settings: InvestigationSettings,
        asking: ModelSettings,
    ) -> None:
        super().__init__(
            take,
            runbooks,
            usual=seen.usual,
            onset=seen.onset,
            memory=seen.memory,
            mended=seen.mended,
            settings=settings,
        )
        self._model = model
        self._templates = seen.templates
        self._asking = asking

    async def investigate(self, known: Known) -> Thought:
        """Look until one cause is sure, or until no look would tell more; then hear the model, if there is a doubt."""
        thought = await super().investigate(known)
        if self._asking.when is AskWhen.NEVER:
            return thought
        if self.is_sure(thought):
            if self._asking.when is AskWhen.ALWAYS:
                await self._hear_only(thought)
            return thought
        answer, given = await self._hear(thought.known)
        if given is not thought.known:
            # What the model wanted to see is weighed by the rules as well, and may leave no doubt.
            thought = await super().investigate(given)
        if answer is None:
            return thought
        cited = {item.evidence_id: item.fact for item in given.evidence.values()}
        return await self._weighed(thought, answer, [cited[each] for each in answer.evidence_ids])

    def is_sure(self, thought: Thought) -> bool:
        """Return whether the rules need no second opinion: nothing that is read in words moves what was counted and measured."""
        best = thought.best
        is_whole = best.cause != UNKNOWN and thought.is_confirmed and not best.unproven
        return is_whole and best.probability >= self._settings.sure

    async def _hear(self, known: Known) -> tuple[ModelAnswer | None, Known]:
        """Return what the model thinks, None if nothing that counts, and what was known when it said so."""
        for left in range(self._asking.most_rounds, -1, -1):
            case = self._case(known, left)
            answer = await self._asked(case)
            if answer is None:
                break
            if not answer.looks or not left:
                refusal = refuse_form(answer, case.runbooks, sent_evidence(known))
                if refusal is None:
                    return answer, known
                await self._tell_refusal(answer, refusal)
                break
            refusal = refuse_looks(answer, case.looks, self._asking.together)
            if refusal is not None:
                await self._tell_refusal(answer, refusal)
                break
            wanted = list(dict.fromkeys(answer.looks))
            await self._model.tell("model_looks", f"The model wants to see {', '.join(wanted)}.", {"looks": wanted})
            known = await self._look(known, wanted)
        return None, known

    async def _hear_only(self, thought: Thought) -> None:
        """Ask once, of what is sure already, for the record."""
        case = self._case(thought.known, 0)
        answer = await self._asked(case)
        if answer is None:
            return
        refusal = refuse_form(answer, case.runbooks, sent_evidence(thought.known))
        if refusal is not None:
            await self._tell_refusal(answer, refusal)
            return
        said = (
            "as the rules do" if answer.cause == thought.best.cause else f"the rules are sure of {thought.best.cause}"
        )
        await self._model.tell(
            "model_heard",
            f"The model names {answer.cause} ({answer.probability:.2f}); {said}.",
            {"cause": answer.cause, "probability": answer.probability, "by_rules": thought.best.cause},
            answer.evidence_ids,
        )

    async def _asked(self, case: Case) -> ModelAnswer | None:
        try:
            return await self._model.ask(build_prompt(case, code=secrets.token_hex(16)))
        except LlmError:
            # Told where it was asked; whatever it is, there are the rules.
            return None

    def _case(self, known: Known, left: int) -> Case:
        books: Sequence[Runbook] = self._runbooks
        if len(books) > MOST_CAUSES:
            likely = [item.cause for item in self.diagnose(known)]
            books = sorted(books, key=lambda book: likely.index(book.cause))[:MOST_CAUSES]
        return Case(known, books, self._templates, self._memory, tuple(LOOKS), left)

    async def _weighed(self, thought: Thought, answer: ModelAnswer, cited: Sequence[str]) -> Thought:
        """Return what is thought with the model's word, if it counts and the rules still leave a doubt."""
        if self.is_sure(thought):
            return thought
        candidates = await self._with_word(thought.candidates, answer, cited, thought.known)
        if candidates is None:
            return thought
        if candidates[0].cause == thought.best.cause:
            return replace(thought, candidates=candidates)
        # It is another cause now. What is acted on was the most probable one at two moments.
        known = await self._look(thought.known, self._ground_of(candidates[:1]))
        by_rules = tuple(self.diagnose(known))
        rounds = thought.rounds + 1
        again = await self._with_word(by_rules, answer, cited, known)
        if again is None:
            return Thought(known, by_rules, rounds, is_confirmed=False)
        return Thought(known, again, rounds, is_confirmed=again[0].cause == candidates[0].cause)

    async def _with_word(
        self, candidates: Sequence[Candidate], answer: ModelAnswer, cited: Sequence[str], known: Known
    ) -> tuple[Candidate, ...] | None:
        refusal = refuse_cause(answer.cause, cited, candidates, self._runbooks, known)
        if refusal is not None:
            await self._tell_refusal(answer, refusal)
            return None
        found = raised(candidates, answer.cause, answer.probability)
        before, after = (
            next(item.probability for item in each if item.cause == answer.cause) for each in (candidates, found)
        )
        await self._model.tell(
            "model_weighed",
            f"The model names {answer.cause} ({answer.probability:.2f}): with its word {after:.2f}, by the rules alone "
            f"{before:.2f}.",
            {"cause": answer.cause, "probability": answer.probability, "by_rules": before, "with_it": after},
            answer.evidence_ids,
        )
        return found

    async def _tell_refusal(self, answer: ModelAnswer, refusal: Refusal) -> None:
        # No text of the model's own: it has read what others wrote, and people and programs read this.
        content: dict[str, Any] = {"refusal": refusal.name.lower()}
        if answer.cause == UNKNOWN or answer.cause in {book.cause for book in self._runbooks}:
            content["cause"] = answer.cause
        await self._model.tell(
            "model_refused", f"The model's answer does not count: {refusal.value}. The rules' answer stands.", content
        )
