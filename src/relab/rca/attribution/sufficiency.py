"""Check whether a run's telemetry is sufficient to name a cause.

The two conditions come from the AgentOps contract, a specification of reports that relab follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from relab.rca.detectors import DetectedProblem
from relab.rca.evidence import RunView

NO_DETAILS = "Limited telemetry: no tool failures or specific error details captured"
ONLY_GENERIC = "Limited telemetry: tool failures carry only generic error messages without details"
NO_TELEMETRY = "Limited telemetry: no tool calls, error type or guardrail events captured"


def insufficient_reason(view: RunView, problems: Sequence[DetectedProblem]) -> str | None:
    """Return why the telemetry of a failed run is not sufficient to name a cause, as a sentence.

    Return None if it is sufficient, or if the run did not fail. It is not sufficient in two cases:

    - The run has no tool calls, no error type and no guardrail events.
    - The run has no guardrail event, none of its errors has a specific class, message or status code, and no problem of
      at least medium confidence names a step or call.
    """
    if not view.failed:
        return None
    run = view.run
    has_details = _has_details(view, problems)
    if not run.tool_calls and not (run.error_type or "").strip() and not run.guardrail_events:
        return NO_TELEMETRY if has_details else NO_DETAILS
    if has_details:
        return None
    return ONLY_GENERIC if view.call_failures else NO_DETAILS


def _has_details(view: RunView, problems: Sequence[DetectedProblem]) -> bool:
    if view.run.guardrail_events or any(problem.is_located and problem.is_strong for problem in problems):
        return True
    if any(failure.is_specific for failure in view.failures):
        return True
    codes = (failure.status_code for failure in view.call_failures)
    return any(code is not None and code >= 400 and code != 500 for code in codes)
