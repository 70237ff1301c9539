"""Convert incidents to agent runs.

Pure: the same timeline always gives the same run, so a run can be rewritten at any time.
"""

from __future__ import annotations

from typing import Any, Final

from relab.core.clock import format_time
from relab.core.json import is_number
from relab.incidents.actions.records import ActionStatus
from relab.incidents.postmortem.models import IncidentRecord
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus
from relab.incidents.tracing.steps import Steps
from relab.knowledge.models import UNNAMED
from relab.telemetry.models import AgentRun

AGENT_NAME: Final = "relab-responder"
_MAX_ENVIRONMENT: Final = 500
_MAX_NUMBER: Final = 10**12


def agent_run_id(incident_id: str) -> str:
    """Return the id that an incident's agent run has in telemetry."""
    return f"incident.{incident_id}"


def agent_run_of(case: IncidentRecord) -> AgentRun:
    """Convert an incident to an agent run; if the incident is not over, the run covers its course so far.

    A step is a visit to a workflow node. A tool call is a probe, an action or a model call. The status of the run is
    the first that applies:
    - `success`: the responder resolved the incident.
    - `cancelled`: a person dismissed the incident.
    - `failure`: the incident was escalated to a person, or a person's actions ended it.
    - `running`: the incident is not over.
    - `cancelled`: the incident passed, or a person closed it.
    """
    incident, found = case.incident, Steps(case)
    latest_us = max([incident.opened_at, *(event.at for event in case.events)])
    run: dict[str, Any] = {
        "run_id": agent_run_id(incident.incident_id),
        "agent_name": AGENT_NAME,
        "environment": incident.target[:_MAX_ENVIRONMENT],
        "started_at": format_time(incident.opened_at),
        "status": _status(case),
        "correlation_ids": [incident.incident_id],
        "steps": found.steps,
        "tool_calls": found.calls,
        "guardrail_events": found.guards,
        "incident": {
            "incident_id": incident.incident_id,
            "href": f"/agent/incidents/{incident.incident_id}",
            "target": incident.target,
            "title": incident.title,
            "severity": incident.severity.value,
            "outcome": None if incident.outcome is None else incident.outcome.value,
            "diagnosis": incident.diagnosis,
            "probability": incident.probability,
            "last_seq": incident.last_seq,
        },
    }
    if incident.closed_at is not None:
        # The end must not be before the last event, but the clock may have been set back.
        run["ended_at"] = format_time(max(incident.closed_at, latest_us))
    if run["status"] == "failure":
        run |= {"error_type": error_of(case), "error_message": _error_message(case)}
    cost = _cost(case)
    return AgentRun.model_validate(run | ({"cost": cost} if cost else {}))


def error_of(case: IncidentRecord) -> str:
    """Return why the responder did not resolve an escalated incident, as an error type such as `approval_rejected`."""
    if any(decision is not None and not decision.approved for _, decision in case.approvals):
        return "approval_rejected"
    tried = [act for act in case.actions if act.status is not ActionStatus.REFUSED and act.undoes is None]
    if tried:
        return "actions_failed"
    if case.actions:
        return "actions_refused"
    kinds = {event.kind for event in case.events}
    if "failed" in kinds and "escalated" not in kinds:
        return "responder_failed"
    if kinds & {"refused", "suggested"}:
        return "policy_refused"
    return "cause_unknown" if case.incident.diagnosis in {None, UNNAMED} else "nothing_to_be_done"


def _error_message(case: IncidentRecord) -> str:
    """Return why the incident was handed over to people last; the recommendation does not say so after the end."""
    said = [event.message for event in case.events if event.kind == "escalated"]
    return (said[-1] if said else case.incident.recommendation) or "A person had to end it."


def _status(case: IncidentRecord) -> str:
    incident = case.incident
    if incident.outcome is IncidentOutcome.RESOLVED:
        return "success"
    if incident.outcome is IncidentOutcome.DISMISSED:
        return "cancelled"
    was_escalated = any(event.kind == "escalated" for event in case.events)
    if was_escalated or incident.status is IncidentStatus.ESCALATED or incident.outcome is IncidentOutcome.ESCALATED:
        return "failure"
    return "running" if incident.outcome is None else "cancelled"


def _cost(case: IncidentRecord) -> dict[str, Any]:
    """Return the tokens and the cost of an incident's model calls, by field name; empty without calls.

    The cost is left out if tokens were used but cost 0 USD, because then the settings contain no prices.
    """
    ended = [event.content for event in case.events if event.kind in {"model_answered", "model_failed"}]
    if not ended:
        return {}
    prompt = int(sum(_number(content.get("prompt_tokens")) for content in ended))
    completion = int(sum(_number(content.get("completion_tokens")) for content in ended))
    usd = sum(_number(content.get("usd")) for content in ended)
    tokens = {"tokens_prompt": prompt, "tokens_completion": completion}
    return tokens if usd == 0 and (prompt or completion) else {**tokens, "total_cost_usd": usd}


def _number(value: Any) -> float:
    return value if is_number(value) and 0 <= value < _MAX_NUMBER else 0
