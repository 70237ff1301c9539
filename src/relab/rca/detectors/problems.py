"""The output of detectors: problems located in a run, with quotations of the places that show them.

When the report is built, a problem becomes a `Finding` (`rca/models.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from relab.rca.evidence import Quotation
from relab.rca.models import Category, Confidence, EvidenceKind

_LEVELS = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)


def raised(confidence: Confidence) -> Confidence:
    """Return the next higher confidence, for a second, independent sign of a problem; high stays high."""
    return _LEVELS[min(_LEVELS.index(confidence) + 1, len(_LEVELS) - 1)]


def lowered(confidence: Confidence) -> Confidence:
    """Return the next lower confidence; low stays low."""
    return _LEVELS[max(_LEVELS.index(confidence) - 1, 0)]


def strength(confidence: Confidence) -> int:
    """Return the confidence as a number for comparisons: 0, 1, 2 for low, medium, high."""
    return _LEVELS.index(confidence)


@dataclass(frozen=True, slots=True)
class DetectedProblem:
    """One problem of a run, located as precisely as the data of the run allow.

    Attributes:
        category: the failure category.
        detail: the finer kind of problem within the category; None if not known.
        confidence: how certain the problem and its category are.
        at_us: when the problem occurred, in microseconds since 1970.
        kind: the kind of the object (call, step, guardrail event, log line, run or version) that shows the problem.
        position: the index of this object among the objects of its kind, in order of time.
        quotes: the parts of the run that show the problem.
        step_id: the step with the problem; None if not known.
        call_id: the tool call with the problem; None if not known.
        agent_name: the agent with the problem; None if not known.
        tool_name: the tool of the call, or the tool that two versions use differently; None without one.
        recovered: whether the run recovered from the problem, for example by a retry.
        occurrences: how often a loop repeated, or how often a step or call was retried; 1 for other problems.
        members: the positions of the tool calls of a loop, or of the retried call; empty for other problems.
        follows: whether the problem is only the effect of another problem.
    """

    category: Category
    detail: str | None
    confidence: Confidence
    at_us: int
    kind: EvidenceKind
    position: int
    quotes: tuple[Quotation, ...]
    step_id: str | None = None
    call_id: str | None = None
    agent_name: str | None = None
    tool_name: str | None = None
    recovered: bool = False
    occurrences: int = 1
    members: tuple[int, ...] = ()
    follows: bool = False

    @property
    def compares_versions(self) -> bool:
        """Whether the problem is a difference between two versions of the agent, and not an error in the run."""
        return self.kind is EvidenceKind.VERSION

    @property
    def is_located(self) -> bool:
        """Whether the problem names a step or a call of the run."""
        return self.step_id is not None or self.call_id is not None

    @property
    def is_strong(self) -> bool:
        """Whether the confidence of the problem is at least medium."""
        return self.confidence is not Confidence.LOW
