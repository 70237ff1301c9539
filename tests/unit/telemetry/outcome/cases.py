"""Builders of small runs for tests of the outcome; times are in seconds after the start of the run."""

from __future__ import annotations

from typing import Any

from relab.telemetry.models import AgentRun
from relab.telemetry.outcome import activities_of, outcome_of
from relab.telemetry.outcome_models import OutcomeReport
from support.telemetry.runs import RunBody, minimal_run, step, time_text, tool_call


def report_of(
    *items: RunBody, status: str = "success", question: str | None = None, answer: str | None = None, **fields: Any
) -> OutcomeReport:
    """Return the outcome of a run with these steps and calls, in the order of their times."""
    body = minimal_run(status=status, answer=answer, question=question, **fields)
    body["steps"] = [item for item in items if "name" in item]
    body["tool_calls"] = [item for item in items if "tool_name" in item]
    run = AgentRun.model_validate(body)
    return outcome_of(run, activities_of(run))


def verdict(*items: RunBody, **fields: Any) -> tuple[str, str]:
    """Return the outcome and the rule of a run with these steps and calls."""
    report = report_of(*items, **fields)
    return report.value.value, report.rule.value


def good(call_id: str, second: float, tool: str = "order_lookup", args: Any = None, **fields: Any) -> RunBody:
    """Return a tool call of one second that succeeded."""
    times = {"started_at": time_text(second), "ended_at": time_text(second + 1)}
    return tool_call(call_id, tool_name=tool, args_json=args, **{**times, "result_summary": "found", **fields})


def bad(call_id: str, second: float, tool: str = "order_lookup", args: Any = None, **fields: Any) -> RunBody:
    """Return a tool call of one second that failed, by a time-out unless the fields give another error."""
    given = {"result_summary": None, "status": "failure", "error_message": "timed out after 5 s", **fields}
    return good(call_id, second, tool, args, **given)


def model(step_id: str, second: float, output: str | None = None, **fields: Any) -> RunBody:
    """Return the step of a model call of one second, as made from a span."""
    return role("llm", step_id, second, output_summary=output, **{"name": "chat m1", **fields})


def agent(step_id: str, second: float, name: str = "researcher", **fields: Any) -> RunBody:
    """Return the step of an agent of one second, as made from a span."""
    return role("agent", step_id, second, name=f"invoke_agent {name}", **{"agent_name": name, **fields})


def role(span_kind: str, step_id: str, second: float, **fields: Any) -> RunBody:
    """Return a step of one second with this span kind."""
    return step(step_id, second, span_kind=span_kind, **{"ended_at": time_text(second + 1), **fields})
