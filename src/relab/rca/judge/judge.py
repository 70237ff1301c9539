"""Ask a language model which step of a failed run went wrong first, and add its answer to the report."""

from __future__ import annotations

from collections.abc import Sequence

from relab.core.logging import get_logger
from relab.llm import LlmError, LlmGateway
from relab.rca.evidence import EvidenceCollector, RunView
from relab.rca.judge.answers import DroppedAnswerError, Opinion
from relab.rca.judge.cache import JudgeAnswerCache
from relab.rca.judge.methods import METHODS, MIN_CANDIDATES, JudgeRun, prompt_overhead
from relab.rca.judge.session import JudgeLimitError, JudgeLimits, JudgeSession
from relab.rca.judge.transcript import Transcript
from relab.rca.judge_models import JudgedStep, JudgeMethod, JudgeVerdict
from relab.rca.models import Report
from relab.telemetry.models import AgentRun

_log = get_logger(__name__)


class Judge:
    """Asks a language model which step of a failed run went wrong first.

    Args:
        gateway: calls the model.
        model: the name of the model, for the report; None if not known.
        limits: the limits of all requests about one run together.
    """

    def __init__(self, gateway: LlmGateway, *, model: str | None, limits: JudgeLimits) -> None:
        self._gateway = gateway
        self._model = model
        self._limits = limits

    def judge(self, report: Report, run: AgentRun, method: JudgeMethod, cache: JudgeAnswerCache) -> Report:
        """Return a copy of the report with the model's verdict: the steps that went wrong first.

        If the model names no step, fails or cannot be asked, the verdict states the reason. Errors of the model are not
        raised.

        Args:
            report: the report of the run.
            run: the run.
            method: how to ask the model; not `OFF`.
            cache: the answers to earlier requests about the run.
        """
        session = JudgeSession(self._gateway, self._model, self._limits, cache)
        view = RunView(run)
        transcript = Transcript(view, self._limits.context_chars - prompt_overhead())
        candidates = _candidates(report, transcript)
        judgement = JudgeRun(transcript, session, candidates)
        opinion, fallback = Opinion((), None), _obstacle(view, transcript, candidates, method)
        if fallback is None:
            try:
                opinion = METHODS[method](judgement)
            except (DroppedAnswerError, JudgeLimitError, LlmError) as error:
                fallback = session.explain(error)
        if fallback is None and not opinion.picks:
            fallback = "the model found no wrong step"
        collector = EvidenceCollector(run, report.evidence_index)
        cited = [(pick, collector.quote(pick.quotation)) for pick in opinion.picks]
        evidence = collector.evidence
        steps = tuple(
            JudgedStep.citing(
                evidence,
                step_id=pick.step.step_id,
                step_name=pick.step.placed.step.name,
                agent_name=pick.step.placed.step.agent_name,
                reason=pick.reason,
                evidence_ids=(evidence_id,),
            )
            for pick, evidence_id in cited
        )
        verdict = JudgeVerdict.model_validate(
            {
                "method": method,
                **session.cost(),
                "steps": steps,
                "fallback": fallback,
                "stated_confidence": opinion.confidence,
                "steps_left_out": judgement.left_out,
                "texts_cut": judgement.cut,
                "texts_withheld": judgement.withheld,
            },
            context={"evidence": evidence},
        )
        _log.info("rca.judged", method=str(method), steps=len(steps), calls=verdict.calls, fallback=fallback)
        return report.with_changes(evidence, judge=verdict)


def _candidates(report: Report, transcript: Transcript) -> Sequence[int]:
    """Return the numbers (in `transcript`) of the steps that the report names as wrong.

    The step of its attribution comes first, then its other candidates. Steps that are not in `transcript` are left out.
    """
    named = [report.attribution.step_id] if report.attribution is not None else []
    named += [candidate.step_id for candidate in report.candidates]
    numbers = (transcript.number_of(step_id) for step_id in dict.fromkeys(named))
    return [number for number in numbers if number is not None]


def _obstacle(view: RunView, transcript: Transcript, candidates: Sequence[int], method: JudgeMethod) -> str | None:
    """Return why the language model cannot be asked about a run by `method`; None if it can be asked.

    `candidates` are the numbers of the steps that the report names as possible first mistakes.
    """
    if not view.failed:
        return "the run did not fail"
    if not transcript.steps:
        return "the run has no steps"
    if method is JudgeMethod.RERANK and len(candidates) < MIN_CANDIDATES:
        return "the local ranking has fewer than two candidates"
    return None
