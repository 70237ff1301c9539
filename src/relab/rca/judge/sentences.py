"""Ask a language model whether a run shows behaviours that sentences describe, with one request for each sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

from relab.core.logging import get_logger
from relab.llm import LlmError, LlmGateway, LlmNotConfiguredError, LlmUnavailableError, Prompt, prompt_text
from relab.rca.evidence import Quotation, RunView
from relab.rca.judge.answers import DroppedAnswerError, SentenceAnswer, check_quote, grounded_reason
from relab.rca.judge.cache import JudgeAnswerCache
from relab.rca.judge.session import JudgeLimitError, JudgeLimits, JudgeSession
from relab.rca.judge.transcript import Excerpt, ShownRun, Transcript
from relab.rca.judge_models import JudgeDrop, SentenceJudgement
from relab.telemetry.models import AgentRun

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ShownSentence:
    """A quotation that shows a behaviour in a run, and the language model's reason.

    The reason is None if the model gave none, or if the run does not support it (`grounded_reason`).
    """

    quotation: Quotation
    reason: str | None


@dataclass(frozen=True, slots=True)
class JudgedSentences:
    """The answers of a language model to the question which behaviours a run shows. A sentence describes each behaviour.

    `shown` is `{name of a behaviour that the run shows: (quotation, reason)}`. `judgement` states which behaviours were
    judged, and the cost.
    """

    shown: Mapping[str, ShownSentence]
    judgement: SentenceJudgement


class SentenceJudge:
    """Asks a language model which behaviours a run shows; a sentence describes each behaviour.

    Args:
        gateway: calls the model.
        model: the name of the model, for the report; None if not known.
        limits: the limits of all requests about one run together.
    """

    def __init__(self, gateway: LlmGateway, *, model: str | None, limits: JudgeLimits) -> None:
        self._gateway = gateway
        self._model = model
        self._limits = limits

    def judge(self, sentences: Mapping[str, str], run: AgentRun, cache: JudgeAnswerCache) -> JudgedSentences:
        """Return which behaviours a run shows according to the model.

        Errors of the model are not raised: the result lists the behaviour as not judged, with the reason.

        Args:
            sentences: `{name of a behaviour: the sentence that describes it}`; at least one.
            run: the run.
            cache: the answers to earlier requests about the run.
        """
        session = JudgeSession(self._gateway, self._model, self._limits, cache)
        overhead = max(_overhead(sentence) for sentence in sentences.values())
        transcript = Transcript(RunView(run), self._limits.context_chars - overhead)
        excerpt = transcript.excerpt(range(len(transcript.steps)))
        shown: dict[str, ShownSentence] = {}
        judged: list[str] = []
        not_judged: dict[str, str] = {}
        # A server that is down would cost each further sentence its time-out.
        unavailable = None if transcript.has_texts else "the run has no texts"
        for name, sentence in sentences.items():
            if unavailable is not None:
                not_judged[name] = unavailable
                continue
            try:
                found = _ask(session, transcript, excerpt, sentence)
            except (DroppedAnswerError, JudgeLimitError, LlmError) as error:
                not_judged[name] = session.explain(error)
                if isinstance(error, LlmUnavailableError | LlmNotConfiguredError):
                    unavailable = not_judged[name]
                continue
            judged.append(name)
            if found is not None:
                shown[name] = found
        judgement = SentenceJudgement(
            **session.cost(),
            judged=tuple(judged),
            not_judged=not_judged,
            steps_left_out=excerpt.left_out,
            texts_cut=excerpt.cut,
            texts_withheld=excerpt.withheld,
        )
        _log.info("rca.sentences_judged", judged=len(judged), shown=len(shown), calls=judgement.calls)
        return JudgedSentences(shown, judgement)


def _ask(session: JudgeSession, transcript: Transcript, excerpt: Excerpt, sentence: str) -> ShownSentence | None:
    """Ask the model whether and where a run shows the behaviour that `sentence` describes; return None if it does not.

    Raises:
        DroppedAnswerError: the answer is not valid.
        JudgeLimitError: the time for requests about this run is over.
        LlmError: the model gave no answer, or the budget is spent.
    """

    def check(answer: SentenceAnswer) -> ShownSentence | None:
        if not answer.is_shown:
            return None
        if answer.step is not None and answer.step not in excerpt.shown:
            raise DroppedAnswerError(JudgeDrop.UNKNOWN_STEP)
        step = None if answer.step is None else transcript.steps[answer.step]
        _, quotation = check_quote((step or ShownRun(transcript.view.run),), answer.quote)
        reason = grounded_reason(transcript, step, answer.reason, sentence) if answer.reason.strip() else None
        if reason is None and answer.reason.strip():
            session.dropped[JudgeDrop.UNGROUNDED_REASON] += 1
        return ShownSentence(quotation, reason)

    prompt, code = sentence_prompt(sentence, excerpt.data)
    return session.ask(prompt, code, SentenceAnswer, check)


def sentence_prompt(sentence: str, data: str) -> tuple[Prompt, str]:
    """Return `(prompt, check code)` for the question whether a run shows the behaviour that `sentence` describes.

    `data` is an excerpt of the run. The check code is a digest of both arguments. The prompt contains the code, and the
    model's answer must repeat it.
    """
    # A digest of the data cannot occur in the data, so no text of the run can forge it.
    code = hashlib.sha256(f"sentence\0{sentence}\0{data}".encode()).hexdigest()[:32]
    # On one line without angle brackets, like the run.
    said = json.dumps(sentence).replace("<", "\\u003c").replace(">", "\\u003e")
    user = Template(prompt_text("rca", "sentence.user.txt")).substitute(code=code, run=data, sentence=said)
    return Prompt(system=prompt_text("rca", "sentence.system.txt"), user=user), code


def _overhead(sentence: str) -> int:
    prompt, _ = sentence_prompt(sentence, "")
    return len(prompt.system) + len(prompt.user)
