"""Name the steps and calls of a run for people: the name first, then the id in brackets, never the id alone."""

from __future__ import annotations

from relab.rca.detectors import DetectedProblem
from relab.rca.evidence import RunView


def tool_of(problem: DetectedProblem, view: RunView) -> str | None:
    """Return the name of the tool whose call has the problem; None if the problem names no tool."""
    placed = view.call(problem.call_id)
    return placed.call.tool_name if placed is not None else problem.tool_name


def step_of(problem: DetectedProblem, view: RunView) -> str | None:
    """Return the name of the step that has the problem; None if the problem names no step of the run."""
    placed = view.step(problem.step_id)
    return placed.step.name if placed is not None else None


def place_of(problem: DetectedProblem, view: RunView) -> str | None:
    """Return the call and the step of a problem as text; None if the problem names neither.

    An example is `order_lookup [call-1] in step "Look up" [step-1]`.
    """
    tool, step = tool_of(problem, view), step_of(problem, view)
    parts = []
    if problem.call_id is not None and tool:
        parts.append(f"{tool} [{problem.call_id}]")
    if problem.step_id is not None and step:
        parts.append(f'step "{step}" [{problem.step_id}]')
    return " in ".join(parts) or None
