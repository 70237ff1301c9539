"""Build the action items (recommended actions) of a report.

Each failure category has general actions. If facts of the run explain the cause, one action states these facts instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from relab.rca.attribution import RankedCause
from relab.rca.detectors import DESCRIPTORS, CategoryDescriptor, Explanation, action
from relab.rca.evidence import EvidenceCollector, RunView
from relab.rca.models import ActionItem, CandidateStep

COLLECT_DATA = (
    action(
        "monitoring",
        "high",
        "Enable detailed tracing",
        "Add structured logging and tracing to capture more diagnostic information.",
    ),
    action(
        "code_change",
        "medium",
        "Add structured error codes",
        "Implement error code taxonomy to enable better classification in future RCAs.",
    ),
)
"""Actions for a run whose telemetry is not sufficient for a conclusion (verbatim from the AgentOps contract)."""

KEEP_WATCHING = (
    action(
        "monitoring",
        "low",
        "Keep monitoring",
        "No action is needed for this run; watch the success rate and the recovered errors of the agent.",
    ),
)


def read_candidates(candidates: Sequence[CandidateStep]) -> ActionItem:
    """Return the action item that recommends to read the candidate steps (those that may be the first mistake).

    `candidates` has at least one step; the most likely one comes first.
    """
    steps = ", then ".join(f'"{found.step_name}" [{found.step_id}]' for found in candidates)
    return action(
        "process",
        "high",
        "Read the steps that may have gone wrong first",
        f"Compare what each step was given with what it answered, in this order: {steps}. Record the step that went wrong with "
        "`lab rca label RUN --step ID`: labels measure the guesses, and `lab rca train` learns from them.",
    ).model_copy(
        update={"evidence_ids": tuple(dict.fromkeys(each for found in candidates for each in found.evidence_ids))}
    )


def explain_cause(cause: RankedCause, view: RunView) -> Explanation | None:
    """Explain a cause with facts of the run; None if the run has no facts that add to the category's general text."""
    return DESCRIPTORS[cause.category].explain(cause.lead, view)


def explained_action(
    descriptor: CategoryDescriptor, explanation: Explanation, collector: EvidenceCollector
) -> ActionItem:
    """Return the first action of a failure category, with the facts of the run instead of its general description.

    `explanation` has the facts, the fix and the quotations. The new description states the facts and the fix, and the
    action cites the quotations.
    """
    general = descriptor.actions[0]
    text = f"{explanation.facts} {explanation.fix}"
    return general.model_copy(
        update={
            "description": f"{descriptor.advice_opening}: {text}" if descriptor.advice_opening else text,
            "evidence_ids": collector.quote_all(explanation.quotes),
        }
    )
