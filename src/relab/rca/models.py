"""The report of a root cause analysis, and the classes that ensure that each claim in it cites evidence.

A claim (`Finding`, `Hypothesis`, `Attribution` and others) can only be built with `citing`, for example
`Hypothesis.citing(evidence, ...)`, which takes the collected evidence. If the claim cites an id that is not in this
evidence, `UncitedClaimError` is raised. So no report contains a claim without evidence. `Report.load` checks stored
reports in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, model_validator

from relab.core.clock import Timestamp
from relab.rca.behaviour_models import BEHAVIOUR_PATTERN, NewBehaviourLabel, RunBehaviourLabel
from relab.rca.claims import CitedModel, Confidence, Evidence, EvidenceKind, RcaModel
from relab.rca.errors import UncitedClaimError
from relab.rca.judge_models import JudgedStep, JudgeMethod, JudgeVerdict, SentenceJudgement
from relab.rca.passing_models import PassingComparison

__all__ = [
    "BEHAVIOUR_PATTERN",
    "ActionItem",
    "Attribution",
    "AttributionBasis",
    "BehaviourFinding",
    "CandidateStep",
    "Category",
    "CitedModel",
    "Confidence",
    "Evidence",
    "EvidenceKind",
    "Finding",
    "GuessOdds",
    "HitRate",
    "Hypothesis",
    "JudgeMethod",
    "JudgeVerdict",
    "JudgedStep",
    "NewBehaviourLabel",
    "Omitted",
    "RcaModel",
    "RcaRun",
    "RcaStatus",
    "RcaSummary",
    "Report",
    "RunBehaviourLabel",
    "SentenceJudgement",
]


class Category(StrEnum):
    """The categories of causes that a report can name; `rca/detectors/<category>.py` has everything about a category.

    Their order is their precedence: if two categories fit an error with equal confidence, the earlier one is chosen,
    because it is more specific.
    """

    RATE_LIMITED = "rate_limited"
    TOOL_PERMISSION = "tool_permission"
    TOOL_SCHEMA_MISMATCH = "tool_schema_mismatch"
    RETRIEVAL_EMPTY = "retrieval_empty"
    TIMEOUT = "timeout"
    PLANNER_LOOP = "planner_loop"
    PROMPT_REGRESSION = "prompt_regression"
    UNKNOWN = "unknown"


class AttributionBasis(StrEnum):
    """Why a report names a step or call as the place of a problem.

    - `evidence`: errors or behaviour in the run show it.
    - `ranked_guess`: only a ranking of the run's steps names it.
    """

    EVIDENCE = "evidence"
    RANKED_GUESS = "ranked_guess"


class Finding(CitedModel):
    """A problem that was found in the run, whether or not it is the cause of the failure.

    The fields that name a step, call, tool or agent state where the problem is. Such a field is null if it is not known
    or does not apply.
    """

    category: Category
    detail: str | None = Field(None, description="A finer kind within the category, such as `retry_after`.")
    step_id: str | None = None
    step_name: str | None = None
    call_id: str | None = None
    tool_name: str | None = None
    agent_name: str | None = None
    confidence: Confidence
    basis: AttributionBasis = Field(
        AttributionBasis.EVIDENCE,
        description="`ranked_guess`: no error shows the problem; a model of the run's source or a rule of structure names it.",
    )
    recovered: bool = Field(False, description="True if the run recovered from the problem later.")
    at: Timestamp | None = Field(None, description="When it happened, as far as the run reports it.")


class Hypothesis(CitedModel):
    """A possible root cause in a few words (`title`) and in sentences, with its evidence and steps to verify it."""

    title: str
    description: str
    category: Category
    confidence: Confidence
    verification_steps: Annotated[tuple[str, ...], Field(min_length=1)]


class GuessOdds(RcaModel):
    """The probability that a guess (a step that only a ranking names) is right.

    A model that was trained on runs of the same source (program) estimates it. The model was tested on other runs.
    `all` is the number of test runs in which the most likely guess had about this probability: in the same range, such
    as 0.2 to 0.35. `right` is the number of these runs in which the guess was right.
    """

    probability: Annotated[float, Field(ge=0, le=1)]
    right: int
    all: int
    stands_out: bool = Field(
        description="Whether the run has no gaps, and the probability reaches the threshold of a guess that stands out."
    )


class Attribution(CitedModel):
    """The place at which the run failed: the step, the agent, the call and the tool.

    Each field is null if it is not known or does not apply.

    `basis` states whether evidence shows the place or only a ranking guesses it. A guess has low confidence. The step
    of a guess is the first of the report's `candidates`. The agent of a guess is ranked separately, by all steps of
    each agent, so it may differ from the agent of the guessed step.
    """

    basis: AttributionBasis = AttributionBasis.EVIDENCE
    step_id: str | None = None
    step_name: str | None = None
    agent_name: str | None = None
    call_id: str | None = None
    tool_name: str | None = None
    confidence: Confidence
    odds: GuessOdds | None = Field(
        None, description="How likely a ranked guess is right; null without a trained model."
    )


class CandidateStep(CitedModel):
    """A step that may be the first mistake of a run, according to a ranking.

    `reasons` are the facts behind the ranking. The evidence quotes the step, and other steps that a reason mentions.
    """

    step_id: str
    step_name: str
    agent_name: str | None = None
    reasons: Annotated[tuple[str, ...], Field(min_length=1)]
    odds: GuessOdds | None = Field(None, description="How likely it is right; null without a trained model.")


class HitRate(RcaModel):
    """How often a found behaviour (a pattern) was really in the run, measured on runs that people labelled.

    The behaviour was found in `seen` labelled runs; the labels confirm it for `right` of them. `low` and `high` are the
    bounds of the 95 % confidence interval (Wilson) of right / seen.
    """

    right: int
    seen: int
    low: float
    high: float


class BehaviourFinding(CitedModel):
    """A behaviour that was found in the run by a rule of this installation, with the place.

    `behaviour` is the name of the rule. `by_model` is true if a language model judged that the run shows the behaviour.
    The fields of the place are null if they are not known.
    """

    behaviour: str
    description: str
    step_id: str | None = None
    call_id: str | None = None
    agent_name: str | None = None
    by_model: bool = False
    model: str | None = Field(
        None, description="The name of the model; null if it is not known, or no model was asked."
    )
    reason: str | None = Field(
        None, description="The model's reason in a sentence; null without one that the run supports."
    )
    hit_rate: HitRate | None = Field(
        None, description="How often such findings were right in other runs that people labelled; null without any."
    )

    def line(self) -> str:
        """Return the behaviour (a pattern that the run shows) as one line.

        If people labelled runs, the line states how often such findings were right.
        """
        notes = [f"opinion of the model{f' {self.model}' if self.model else ''}"] if self.by_model else []
        if self.hit_rate is not None:
            notes.append(f"of {self.hit_rate.seen} labelled runs in which it was found, {self.hit_rate.right} show it")
        return f"{self.description} ({'; '.join(notes)})" if notes else self.description


class ActionItem(RcaModel):
    """A recommended action: the kind of change, a title, a description, and the priority."""

    type: Literal["code_change", "config_change", "prompt_change", "monitoring", "process"]
    title: str
    description: str
    priority: Literal["high", "medium", "low"]
    evidence_ids: tuple[str, ...] = Field(
        (),
        description="The quotations of the values that the description names; empty for general advice.",
        exclude_if=lambda value: not value,
    )


class Omitted(RcaModel):
    """The number of findings that a report leaves out because of its size limit."""

    findings: int = 0


class Report(RcaModel):
    """The result of an analysis; immutable. `evidence_index` contains every id that the report cites.

    `category` and `detail` are those of the most likely cause; without a cause they are `unknown` and null.
    `summary_source` is `llm` if a language model wrote the summary. The most likely one of the `hypotheses` comes
    first.
    """

    category: Category
    detail: str | None = None
    insufficient_evidence: bool
    insufficient_reason: str | None = None
    summary: str
    summary_source: Literal["rules", "llm"] = "rules"
    evidence_index: tuple[Evidence, ...]
    findings: tuple[Finding, ...]
    hypotheses: tuple[Hypothesis, ...]
    attribution: Attribution | None
    candidates: tuple[CandidateStep, ...] = Field(
        (),
        description="Up to three steps that may have gone wrong first, most likely first; empty where errors show the place with confidence, and no executed code failed before it.",
    )
    gaps: tuple[str, ...] = Field(
        (),
        description="Signs that steps of the run were not recorded, so that the first mistake may be one of them, or that the run is from another harness; no guess stands out.",
        exclude_if=lambda value: not value,
    )
    action_items: Annotated[tuple[ActionItem, ...], Field(min_length=1)]
    behaviours: tuple[BehaviourFinding, ...] = Field(
        (), description="The behaviours that rules of this installation found."
    )
    sentences: SentenceJudgement | None = Field(
        None,
        description="How a language model judged the behaviours that are described by a sentence; absent without such rules.",
        exclude_if=lambda value: value is None,
    )
    judge: JudgeVerdict | None = Field(
        None, description="The opinion of a language model on the first wrong step, if one was asked for."
    )
    passing: PassingComparison | None = Field(
        None, description="How a failed run differs from runs that succeeded; null if there is none to compare it with."
    )
    omitted: Omitted = Omitted()
    analyzer_version: str

    @classmethod
    def build(cls, evidence: Mapping[str, Evidence], **fields: Any) -> Self:
        """Build a report from `fields`; its `evidence_index` has all of `evidence`, in the same order.

        `evidence` is `{evidence id: evidence}`.

        Raises:
            UncitedClaimError: a claim cites an id that is not in `evidence`; or `insufficient_evidence` is true, and the
                reason is missing or a hypothesis has more than low confidence.
        """
        return cls.model_validate(
            {"evidence_index": tuple(evidence.values()), **fields}, context={"evidence": evidence}
        )

    def with_changes(self, evidence: Mapping[str, Evidence], **changes: Any) -> Self:
        """Return a copy of the report with new values of some fields, and with `evidence` as its `evidence_index`.

        Raises:
            UncitedClaimError: as for `build`.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "evidence_index"}
        return self.build(evidence, **{**fields, **changes})

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """Read a stored report from its JSON object, and check all of its citations again.

        Raises:
            UncitedClaimError: a claim cites an id that is not in the report's `evidence_index`, or as for `build`.
        """
        index = [Evidence.model_validate(item) for item in data["evidence_index"]]
        return cls.model_validate(data, context={"evidence": {item.evidence_id: item for item in index}})

    @model_validator(mode="after")
    def _every_claim_resolves(self) -> Self:
        known = {item.evidence_id for item in self.evidence_index}
        claims: list[CitedModel | ActionItem] = [*self.findings, *self.hypotheses, *self.candidates, *self.action_items]
        claims += self.behaviours
        claims += self.passing.differences if self.passing is not None else ()
        claims += self.judge.steps if self.judge is not None else ()
        if self.attribution is not None:
            claims.append(self.attribution)
        for claim in claims:
            unknown = set(claim.evidence_ids) - known
            if unknown:
                raise UncitedClaimError(
                    f"A {type(claim).__name__} cites evidence outside the report: {', '.join(sorted(unknown))}."
                )
        if self.insufficient_evidence and any(h.confidence is not Confidence.LOW for h in self.hypotheses):
            raise UncitedClaimError("With insufficient evidence a hypothesis can only be of low confidence.")
        if self.insufficient_evidence and not self.insufficient_reason:
            raise UncitedClaimError("A report with insufficient evidence must give the reason.")
        return self


class RcaStatus(StrEnum):
    """The status of an analysis. A `queued` or `running` analysis ends as `done` (with a report) or as `failed`."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class RcaReceipt(BaseModel):
    """The answer to a request for an analysis: the analysis's id, and whether this request created the analysis."""

    rca_run_id: str
    created: bool


class RcaSummary(NamedTuple):
    """The status of an analysis, and the category of its report; the category is None until the status is `done`."""

    status: RcaStatus
    category: str | None


class RcaRun(BaseModel):
    """One root cause analysis of an agent run: its status, and its report when it is done.

    `content_hash` identifies the content of the agent run that was analysed.
    """

    rca_run_id: str
    run_id: str
    status: RcaStatus
    content_hash: str
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    error: str | None = Field(description="Why the analysis failed; null unless it did.")
    on_arrival: bool = Field(
        description="Whether the arrival of the failed run or a batch requested it, and no person who waits for it."
    )
    judge: JudgeMethod = Field(JudgeMethod.OFF, description="How a language model was asked for its opinion, or `off`.")
    report: Report | None
