"""Errors of root cause analysis."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotConfiguredError, NotFoundError, RelabError
from relab.jobs.errors import PermanentJobError


class UncitedClaimError(RelabError):
    """A claim was built without evidence, or cites evidence that does not exist; its producer must drop the claim.

    It is also raised for a report with insufficient evidence that has no reason for it, or a hypothesis with more than
    low confidence.
    """

    code = "uncited_claim"


class RcaRunNotFoundError(NotFoundError):
    """No analysis has this id."""

    code = "rca_run_not_found"


class VanishedRunError(PermanentJobError):
    """The run was deleted before its analysis, so the job must not be retried."""

    code = "agent_run_vanished"


class NoReportError(ConflictError):
    """The analysis has no report, because it is queued or running, or because it failed."""

    code = "no_report"


class NoJudgeError(NotConfiguredError):
    """A judge (a language model) was requested, but none is configured.

    Repeat the request without a judge, or configure a model.
    """

    code = "no_judge"

    def __init__(self) -> None:
        super().__init__(
            "No language model is configured.",
            remedy="Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or RELAB_LLM__BASE_URL; or ask without a judge.",
        )


class LabelPlaceError(InvalidInputError):
    """A label names a step or an agent that the run does not have. The request must be corrected."""

    code = "label_place"


class NoLabelError(NotFoundError):
    """The run has no label. If `behaviour` is given, the run has no label for this behaviour (pattern)."""

    code = "label_not_found"

    def __init__(self, agent_run_id: str, *, behaviour: str | None = None) -> None:
        of_what = "" if behaviour is None else f" for the behaviour {behaviour[:80]!r}"
        super().__init__(f"The run {agent_run_id!r} has no label{of_what}.")


class RankingModelError(InvalidInputError):
    """A ranking model cannot be read or trained; the message says what to change."""

    code = "ranking_model"


class RuleFileError(InvalidInputError):
    """The file of rules for behaviours is invalid; `problems` lists file, line and field of each mistake."""

    code = "invalid_rules"
