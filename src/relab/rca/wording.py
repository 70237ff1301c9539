"""Let a language model rewrite the summary of a report, and check every sentence of it.

The model gets the finished report and may only make it more readable. The policy in `grounding` checks each sentence of
its answer. The deterministic summary is kept if the model fails, if no sentence is accepted, or if no accepted sentence
is about the cause. Only `summary` and `summary_source` of the report are changed.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from enum import StrEnum
from string import Template
from typing import Any

from pydantic import BaseModel, ConfigDict

from relab.core.logging import get_logger
from relab.llm import LlmDisabledError, LlmError, LlmGateway, Prompt, prompt_text
from relab.rca.models import Evidence, Report
from relab.rca.report import DropReason, check_claim, normal_text

MAX_CLAIMS = 5
MAX_HYPOTHESES_SENT = 5
MAX_EVIDENCE_SENT = 12
MAX_TEXT_SENT = 600
"""Maximum length of each text in the prompt, in characters. The rest of a text still counts as grounds for a claim."""


log = get_logger(__name__)


class WordedClaim(BaseModel):
    """One sentence of a language model's summary, and the ids of the evidence that shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    evidence_ids: tuple[str, ...]


class WordedSummary(BaseModel):
    """A language model's summary of a report, as sentences with citations, in reading order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claims: tuple[WordedClaim, ...]


class WordingResult(StrEnum):
    """Whether a language model's summary replaced the summary of a report; if not, why.

    - `WORDED`: it was replaced. All other results leave the report unchanged.
    - `ALREADY_WORDED`: a model has already written the summary; no model was asked.
    - `INSUFFICIENT_EVIDENCE`, `NO_HYPOTHESES`: there is no cause to describe; no model was asked.
    - `NO_CLAIM_STANDS`: no sentence of the model was accepted.
    - `CAUSE_NOT_COVERED`: no accepted sentence cites evidence of the first hypothesis.
    - `MODEL_FAILED`: the model gave no answer.
    """

    WORDED = "worded"
    ALREADY_WORDED = "already_worded"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"
    NO_HYPOTHESES = "no_hypotheses"
    NO_CLAIM_STANDS = "no_claim_stands"
    CAUSE_NOT_COVERED = "cause_not_covered"
    MODEL_FAILED = "model_failed"


_DISBELIEVED = frozenset({WordingResult.NO_CLAIM_STANDS, WordingResult.CAUSE_NOT_COVERED})


@dataclass(frozen=True, slots=True)
class DroppedClaim:
    """A sentence of a language model that was dropped, with the broken rule and the faulty part of the sentence."""

    claim: WordedClaim
    reason: DropReason
    fault: str


@dataclass(frozen=True, slots=True)
class WordingOutcome:
    """The result of asking a language model to rewrite the summary of a report.

    Attributes:
        report: the report, with the new summary if `result` is `WORDED`.
        result: whether the summary was replaced, and if not, why.
        kept: the accepted sentences in order; empty if `result` is not `WORDED`.
        dropped: the rejected sentences.
        error: the error of the model; None if there was none.
    """

    report: Report
    result: WordingResult
    kept: tuple[WordedClaim, ...] = ()
    dropped: tuple[DroppedClaim, ...] = ()
    error: LlmError | None = None


def word_summary(report: Report, gateway: LlmGateway) -> Report:
    """Return a copy of the report with a summary by a language model.

    If no such summary is accepted, return the report itself. Errors of the model are not raised.
    """
    outcome = try_wording(report, gateway)
    said: dict[str, object] = {
        "result": str(outcome.result),
        "kept": len(outcome.kept),
        "dropped": len(outcome.dropped),
    }
    if outcome.dropped:
        # Log only the reasons: a claim may contain text of the run, which is not trusted.
        said["drop_reasons"] = sorted({str(dropped.reason) for dropped in outcome.dropped})
    if outcome.result is WordingResult.WORDED:
        log.info("rca.summary_worded", **said)
    elif outcome.error is not None and not isinstance(outcome.error, LlmDisabledError):
        log.warning("rca.summary_not_worded", reason=outcome.error.code, error=str(outcome.error), **said)
    elif outcome.result in _DISBELIEVED:
        log.warning("rca.summary_not_worded", reason=str(outcome.result), **said)
    return outcome.report


def try_wording(report: Report, gateway: LlmGateway) -> WordingOutcome:
    """Request a summary of a report from a language model, and keep the sentences that the report supports.

    No request is sent if the report has insufficient evidence or no hypotheses, or if a model already wrote its
    summary.
    """
    if report.summary_source != "rules":
        return WordingOutcome(report, WordingResult.ALREADY_WORDED)
    # Without a cause to describe, a model would invent one.
    if report.insufficient_evidence:
        return WordingOutcome(report, WordingResult.INSUFFICIENT_EVIDENCE)
    if not report.hypotheses:
        return WordingOutcome(report, WordingResult.NO_HYPOTHESES)
    try:
        answer = gateway.complete(build_prompt(report, code=secrets.token_hex(16)), WordedSummary)
    except LlmError as error:
        return WordingOutcome(report, WordingResult.MODEL_FAILED, error=error)
    return apply_policy(report, answer)


def apply_policy(report: Report, answer: WordedSummary) -> WordingOutcome:
    """Replace the summary of a report by the accepted sentences of a model's answer.

    `check_claim` accepts a sentence if the report supports it. If no accepted sentence cites evidence of the first
    hypothesis, the summary is kept.
    """
    evidence = {item.evidence_id: item for item in report.evidence_index}
    kept: list[WordedClaim] = []
    dropped: list[DroppedClaim] = []
    for claim in answer.claims[:MAX_CLAIMS]:
        text = normal_text(claim.text)
        problem = check_claim(text, claim.evidence_ids, report, evidence)
        if problem is None:
            kept.append(WordedClaim(text=text, evidence_ids=claim.evidence_ids))
        else:
            dropped.append(DroppedClaim(claim, *problem))
    dropped += [DroppedClaim(claim, DropReason.TOO_MANY_CLAIMS, "") for claim in answer.claims[MAX_CLAIMS:]]
    if not kept:
        return WordingOutcome(report, WordingResult.NO_CLAIM_STANDS, dropped=tuple(dropped))
    cause = set(report.hypotheses[0].evidence_ids)
    if not any(cause & set(claim.evidence_ids) for claim in kept):
        return WordingOutcome(report, WordingResult.CAUSE_NOT_COVERED, dropped=tuple(dropped))
    summary = " ".join(claim.text if claim.text[-1] in ".!?" else f"{claim.text}." for claim in kept)
    worded = report.model_copy(update={"summary": summary, "summary_source": "llm"})
    return WordingOutcome(worded, WordingResult.WORDED, tuple(kept), tuple(dropped))


def build_prompt(report: Report, *, code: str) -> Prompt:
    """Return the prompt that asks a language model to rewrite the summary of a report.

    `code` is a part of the marks before and after the report in the prompt. It must be random, so that no text of the
    run can imitate such a mark.
    """
    user = Template(prompt_text("rca", "word_summary.user.txt"))
    return Prompt(
        system=prompt_text("rca", "word_summary.system.txt"),
        user=user.substitute(code=code, analysis=_analysis(report)),
    )


def _analysis(report: Report) -> str:
    hypotheses = report.hypotheses[:MAX_HYPOTHESES_SENT]
    cited = dict.fromkeys(evidence_id for hypothesis in hypotheses for evidence_id in hypothesis.evidence_ids)
    sent = list(cited)[:MAX_EVIDENCE_SENT]
    index = {item.evidence_id: item for item in report.evidence_index}
    analysis = {
        "category": report.category,
        "detail": report.detail,
        "summary": report.summary[:MAX_TEXT_SENT],
        "hypotheses": [
            {
                "rank": rank,
                "title": hypothesis.title[:MAX_TEXT_SENT],
                "description": hypothesis.description[:MAX_TEXT_SENT],
                "category": hypothesis.category,
                "confidence": hypothesis.confidence,
                "evidence_ids": [evidence_id for evidence_id in hypothesis.evidence_ids if evidence_id in sent],
            }
            for rank, hypothesis in enumerate(hypotheses, start=1)
        ],
        "evidence": [_evidence(index[evidence_id]) for evidence_id in sent],
    }
    # ASCII on one line without angle brackets, so that no part of it can look like the marks around it.
    return json.dumps(analysis).replace("<", "\\u003c").replace(">", "\\u003e")


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "evidence_id": evidence.evidence_id,
        "kind": evidence.kind,
        "ref_id": evidence.ref_id,
        "title": evidence.title[:MAX_TEXT_SENT],
        "field": evidence.field,
        "snippet": evidence.snippet[:MAX_TEXT_SENT],
        "attributes": {
            name: value[:MAX_TEXT_SENT] if isinstance(value, str) else value
            for name, value in evidence.attributes.items()
        },
    }
