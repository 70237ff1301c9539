"""Is there enough in a run to name a cause at all? The two conditions of the AgentOps contract."""

from __future__ import annotations

from collections.abc import Sequence

from relab.rca.problems import Problem
from relab.rca.run_view import RunView

NO_DETAILS = "Limited telemetry: no tool failures or specific error details captured"
ONLY_GENERIC = "Limited telemetry: tool failures carry only generic error messages without details"
NO_TELEMETRY = "Limited telemetry: no tool calls, error type or guardrail events captured"


def insufficient_reason(view: RunView, problems: Sequence[Problem]) -> str | None:
    """Return why the run's telemetry cannot carry a conclusion, or None if it can.

    Asked of failed runs only. Insufficient is a run (1) without tool calls, error type
    and guardrail events, or (2) whose errors are all generic. What lifts (2) is any
    specific error class or message, a status code other than 500 on a failure, a
    guardrail event, or a located problem of at least medium confidence.
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


def _has_details(view: RunView, problems: Sequence[Problem]) -> bool:
    if view.run.guardrail_events or any(problem.is_located and problem.is_strong for problem in problems):
        return True
    if any(failure.is_specific for failure in view.failures):
        return True
    codes = (failure.status_code for failure in view.call_failures)
    return any(code is not None and code >= 400 and code != 500 for code in codes)
