"""Builders of small agent runs for the tests of run analysis."""

from __future__ import annotations

from typing import Any

from relab.rca.analyzer import analyze
from relab.rca.models import Category, Finding, Report
from relab.telemetry.models import AgentRun
from relab.telemetry.outcome import RunOutcome
from relab.telemetry.past_models import PastRun
from support.telemetry.runs import RunBody, minimal_run, step, time_text, tool_call

HOUR_US = 3_600_000_000


def agent_run(status: str = "failure", **fields: Any) -> AgentRun:
    """Return a run with one step `s1` at second 0, unless `steps` is given."""
    return AgentRun.model_validate(minimal_run(status=status, **{"steps": [step("s1")], **fields}))


def call(call_id: str, offset_s: float = 0.0, **fields: Any) -> RunBody:
    """Return a tool call of step `s1` that starts `offset_s` seconds after the run."""
    return tool_call(call_id, **{"step_id": "s1", "started_at": time_text(offset_s), **fields})


def failed(call_id: str = "c1", offset_s: float = 0.0, **fields: Any) -> RunBody:
    """Return a failed tool call of step `s1`."""
    return call(call_id, offset_s, **{"status": "failure", **fields})


def event(event_id: str = "g1", offset_s: float = 0.0, **fields: Any) -> RunBody:
    """Return a guardrail event."""
    return {"event_id": event_id, "type": "policy", "message": "seen", "created_at": time_text(offset_s), **fields}


def report_of_call(**fields: Any) -> Report:
    """Analyse a failed run whose only tool call failed with these fields."""
    return analyze(agent_run(tool_calls=[failed(**fields)]))


def findings(report: Report, category: Category) -> list[Finding]:
    """Return the findings of a category."""
    return [finding for finding in report.findings if finding.category is category]


def past_runs(
    version: str | None,
    outcomes: list[bool],
    *,
    first_hour: int = -1_000,
    prompt: str | None = None,
    steps: list[int] | None = None,
    tools: list[dict[str, int]] | None = None,
) -> list[PastRun]:
    """Return one earlier run per outcome (True is success), an hour apart, hours counted from the sample run."""
    start = AgentRun.model_validate(minimal_run()).started_at
    return [
        PastRun(
            run_id=f"{version}-{prompt}-{first_hour}-{number}",
            agent_version=version,
            prompt_hash=prompt,
            started_at=start + (first_hour + number) * HOUR_US,
            outcome=RunOutcome.SUCCEEDED if succeeded else RunOutcome.FAILED,
            step_count=steps[number] if steps else 5,
            tool_call_counts=tools[number] if tools else {"search": 2},
        )
        for number, succeeded in enumerate(outcomes)
    ]
