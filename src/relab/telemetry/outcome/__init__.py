"""Decide the outcome of a run, by pure rules over its fields, its steps and its tool calls.

Input: `RunFields` and activities (steps and tool calls in the form that the rules read). Output: an `OutcomeReport`.
Only `RunRecovery` decides whether a run recovered from an error.
"""

from relab.telemetry.outcome.activities import UNKNOWN_ROLE, RunActivity, activities_of, call_activity, step_activity
from relab.telemetry.outcome.case import Case
from relab.telemetry.outcome.phrases import FILTERED, is_step_limit, is_tool_request, plain_reason
from relab.telemetry.outcome.recovery import RunRecovery
from relab.telemetry.outcome.reported_errors import (
    filled,
    is_cancellation,
    is_error_code,
    is_error_in_result,
    reports_error,
)
from relab.telemetry.outcome.rules import judge, outcome_of
from relab.telemetry.outcome_models import OUTCOME_VERSION, OutcomeEvidence, OutcomeReport, OutcomeRule, RunOutcome

__all__ = [
    "FILTERED",
    "OUTCOME_VERSION",
    "UNKNOWN_ROLE",
    "Case",
    "OutcomeEvidence",
    "OutcomeReport",
    "OutcomeRule",
    "RunActivity",
    "RunOutcome",
    "RunRecovery",
    "activities_of",
    "call_activity",
    "filled",
    "is_cancellation",
    "is_error_code",
    "is_error_in_result",
    "is_step_limit",
    "is_tool_request",
    "judge",
    "outcome_of",
    "plain_reason",
    "reports_error",
    "step_activity",
]
