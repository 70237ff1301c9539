"""Find the cause of an incident by the rules of the runbooks, with a language model as a second opinion.

The rules investigate first. If they are not sure, the model gets the same evidence, and may request more probes. Its
answer can only raise the odds of the cause that it names, by a bounded factor. If the model fails, or its answer is
rejected, the result of the rules is used.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate
from relab.incidents.diagnosis.investigation import (
    InvestigationResult,
    Investigator,
    KnownFacts,
    RunProbes,
)
from relab.incidents.diagnosis.model_answers import (
    AnswerRejection,
    ModelAnswer,
    raised,
    reject_cause,
    reject_form,
    reject_probes,
)
from relab.incidents.diagnosis.model_prompt import MAX_CAUSES, PromptInput, build_prompt, sent_evidence
from relab.incidents.diagnosis.settings import AskWhen, InvestigationSettings, ModelSettings
from relab.incidents.probes.catalogue import PROBES
from relab.knowledge.models import FactValue, Runbook
from relab.llm import LlmError, Prompt


class SecondOpinion(Protocol):
    """Calls a language model about one incident, within a budget, and records events in the incident's timeline."""

    async def ask(self, prompt: Prompt) -> ModelAnswer:
        """Send a prompt to the language model and return its answer; record the call and its cost.

        Raises:
            LlmError: the model gave no answer, or the budget has too little left for the call.
        """
        ...

    async def append_event(
        self, kind: str, message: str, content: Mapping[str, Any], evidence: Sequence[str] = ()
    ) -> None:
        """Append an event about a model's answer to the incident's timeline.

        Args:
            kind: the kind of the event.
            message: one sentence for people.
            content: the data of the event, as JSON values.
            evidence: the ids of the evidence that the answer cites.
        """
        ...


@dataclass(frozen=True, slots=True)
class InvestigationInput:
    """The inputs of an investigation, apart from the facts that probes find.

    Attributes:
        usual: usual values (medians) of signals, by name.
        memory: `{cause: factor}`; the factor comes from past incidents, and multiplies the prior of the cause.
        templates: `{template: number of log lines}`; a template is a log line without its variable parts.
        onset: the kind of signals that deviated first (`traffic`, `latency` or `errors`); None if it is unknown.
        mended: causes that were repaired in this incident.
    """

    usual: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    templates: Mapping[str, int] = field(default_factory=dict)
    onset: FactValue | None = None
    mended: frozenset[str] = frozenset()


class ModelInvestigator(Investigator):
    """Investigates one incident by the rules of the runbooks, and may call a language model for a second opinion.

    Args:
        take: a function that runs the probes with the given names at the same time, and returns their result.
        runbooks: the runbooks of all known causes.
        model: the model to call.
        seen: inputs that no probe finds, such as past incidents, log templates and the usual values of signals.
        settings: how many probes an investigation runs, and when it stops.
        asking: when the model is called (never, only if the rules are not sure, or always), and its budget.
    """

    def __init__(
        self,
        take: RunProbes,
        runbooks: Sequence[Runbook],
        model: SecondOpinion,
        *,
        seen: InvestigationInput,
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

    async def investigate(self, known: KnownFacts) -> InvestigationResult:
        """Run probes, compute the probabilities of causes by the runbooks, and call the model if the settings say so.

        Args:
            known: the facts known at the start.
        """
        thought = await super().investigate(known)
        if self._asking.when is AskWhen.NEVER:
            return thought
        if self.is_sure(thought):
            if self._asking.when is AskWhen.ALWAYS:
                await self._hear_only(thought)
            return thought
        answer, given = await self._hear(thought.known)
        if given is not thought.known:
            # The rules also use the probes that the model requested, and may be sure now.
            thought = await super().investigate(given)
        if answer is None:
            return thought
        cited = {item.evidence_id: item.fact for item in given.evidence.values()}
        return await self._weighed(thought, answer, [cited[each] for each in answer.evidence_ids])

    def is_sure(self, thought: InvestigationResult) -> bool:
        """Return whether `thought`, the result of the rules alone, is so sure that the model need not be called.

        The most probable cause must not be `unknown`. Probes at two different moments must confirm it. Its probability
        must be at least `sure_probability`. For each condition that it requires, it must be known whether it holds.
        """
        best = thought.best
        is_whole = best.cause != UNKNOWN and thought.is_confirmed and not best.unproven
        return is_whole and best.probability >= self._settings.sure_probability

    async def _hear(self, known: KnownFacts) -> tuple[ModelAnswer | None, KnownFacts]:
        """Call the model, and run the probes it requests, until it names a cause or has no rounds left.

        Returns:
            `(the model's answer, the facts known at the end)`; the answer is None if it is missing or rejected.
        """
        for left in range(self._asking.max_rounds, -1, -1):
            case = self._case(known, left)
            answer = await self._asked(case)
            if answer is None:
                break
            if not answer.looks or not left:
                refusal = reject_form(answer, case.runbooks, sent_evidence(known))
                if refusal is None:
                    return answer, known
                await self._append_refusal(answer, refusal)
                break
            refusal = reject_probes(answer, case.looks, self._asking.max_probes_per_round)
            if refusal is not None:
                await self._append_refusal(answer, refusal)
                break
            wanted = list(dict.fromkeys(answer.looks))
            await self._model.append_event(
                "model_looks", f"The model requests the probes {', '.join(wanted)}.", {"looks": wanted}
            )
            known = await self._probe(known, wanted)
        return None, known

    async def _hear_only(self, thought: InvestigationResult) -> None:
        """Call the model once, only to record its answer; the answer has no effect on the result.

        `thought` is the result of the rules, which are sure of the cause without the model.
        """
        case = self._case(thought.known, 0)
        answer = await self._asked(case)
        if answer is None:
            return
        refusal = reject_form(answer, case.runbooks, sent_evidence(thought.known))
        if refusal is not None:
            await self._append_refusal(answer, refusal)
            return
        said = (
            "as the rules do" if answer.cause == thought.best.cause else f"the rules are sure of {thought.best.cause}"
        )
        await self._model.append_event(
            "model_heard",
            f"The model names {answer.cause} ({answer.probability:.2f}); {said}.",
            {"cause": answer.cause, "probability": answer.probability, "by_rules": thought.best.cause},
            answer.evidence_ids,
        )

    async def _asked(self, case: PromptInput) -> ModelAnswer | None:
        try:
            return await self._model.ask(build_prompt(case, code=secrets.token_hex(16)))
        except LlmError:
            # `ask` has recorded the failure; the rules' result is used.
            return None

    def _case(self, known: KnownFacts, left: int) -> PromptInput:
        books: Sequence[Runbook] = self._runbooks
        if len(books) > MAX_CAUSES:
            order = {item.cause: number for number, item in enumerate(self.diagnose(known))}
            # A repaired cause that is gone is no candidate; it comes last.
            books = sorted(books, key=lambda book: order.get(book.cause, len(order)))[:MAX_CAUSES]
        return PromptInput(known, books, self._templates, self._memory, tuple(PROBES), left)

    async def _weighed(
        self, thought: InvestigationResult, answer: ModelAnswer, cited: Sequence[str]
    ) -> InvestigationResult:
        """Return the result of an investigation after the model's answer has raised the odds of the cause it names.

        If the rules alone are sure, or the answer is rejected, return `thought` unchanged. If the answer makes another
        cause the most probable one, run probes to confirm that cause. If their facts lead to a rejection of the answer,
        return the result of the rules with these facts, as not confirmed.

        Args:
            thought: the result of the rules alone.
            answer: the model's answer.
            cited: the names of the facts that the answer cites.
        """
        if self.is_sure(thought):
            return thought
        candidates = await self._with_word(thought.candidates, answer, cited, thought.known)
        if candidates is None:
            return thought
        if candidates[0].cause == thought.best.cause:
            return replace(thought, candidates=candidates)
        # The best cause has changed, so confirm it by looks at a second moment.
        known = await self._probe(thought.known, self._ground_of(candidates[:1]))
        by_rules = tuple(self.diagnose(known))
        rounds = thought.rounds + 1
        again = await self._with_word(by_rules, answer, cited, known)
        if again is None:
            return InvestigationResult(known, by_rules, rounds, is_confirmed=False)
        return InvestigationResult(known, again, rounds, is_confirmed=again[0].cause == candidates[0].cause)

    async def _with_word(
        self, candidates: Sequence[Candidate], answer: ModelAnswer, cited: Sequence[str], known: KnownFacts
    ) -> tuple[Candidate, ...] | None:
        refusal = reject_cause(answer.cause, cited, candidates, self._runbooks, known)
        if refusal is not None:
            await self._append_refusal(answer, refusal)
            return None
        found = raised(candidates, answer.cause, answer.probability)
        before, after = (
            next(item.probability for item in each if item.cause == answer.cause) for each in (candidates, found)
        )
        await self._model.append_event(
            "model_weighed",
            f"The model names {answer.cause} ({answer.probability:.2f}): with its word {after:.2f}, by the rules alone "
            f"{before:.2f}.",
            {"cause": answer.cause, "probability": answer.probability, "by_rules": before, "with_it": after},
            answer.evidence_ids,
        )
        return found

    async def _append_refusal(self, answer: ModelAnswer, refusal: AnswerRejection) -> None:
        # Leave the model's own text out: it may repeat untrusted input, and people and programs read this event.
        content: dict[str, Any] = {"refusal": refusal.name.lower()}
        if answer.cause == UNKNOWN or answer.cause in {book.cause for book in self._runbooks}:
            content["cause"] = answer.cause
        await self._model.append_event(
            "model_refused",
            f"The model's answer does not count: {refusal.value}. The result of the rules is used.",
            content,
        )
