"""Models for what the API and the CLI show of the responder and its incidents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp
from relab.incidents.actions.approvals import ApprovalRequest, Decision
from relab.incidents.actions.policy import Autonomy
from relab.incidents.actions.records import ActionRecord
from relab.incidents.models import Severity
from relab.incidents.storage.models import Incident, IncidentStatus

ESCALATED: Final = "escalated"
"""The phase in a status if a person is in charge of the incident."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class LikelyCause(_View):
    """A cause of an incident, and its probability."""

    cause: str
    probability: float


class ActionSummary(_View):
    """An action that was requested for an incident, and the result of the action."""

    action: str
    verdict: str | None = Field(description="The result of the action for users; null while it is unknown.")


class OpenIncident(_View):
    """A target's open incident: its status, its likely causes, and its actions."""

    id: str
    title: str
    severity: Severity
    status: IncidentStatus
    phase: str = Field(description="The node that is running; `escalated`: a person handles the incident.")
    opened_at: Timestamp
    diagnosis: list[LikelyCause] = Field(
        description="Causes, the most probable first; empty before the first diagnosis."
    )
    actions: list[ActionSummary] = Field(description="The actions for the incident, oldest first.")


class ResponderStatus(_View):
    """What the responder of this process is doing: its target, polls, open incident, and the costs of models."""

    target: str | None = Field(description="The watched target; null if no target is watched.")
    autonomy: Autonomy
    autonomy_by_class: dict[str, Autonomy]
    leading: bool = Field(description="Whether this process is the leader, which polls the target.")
    polls: int = Field(description="The number of polls by this process since its start.")
    polled_at: Timestamp | None = Field(description="The time of its last poll.")
    paused: bool
    paused_by: str | None
    incident: OpenIncident | None
    approvals: list[str] = Field(description="The ids of the pending approval requests.")
    cost_usd: float | None = Field(
        description="The cost of language models so far; null if they were called and the settings name no prices."
    )
    tokens: int = Field(description="The tokens that language models have read and written.")


class Question(_View):
    """An approval request and the decision on it; the decision is null until a person has decided."""

    request: ApprovalRequest
    decision: Decision | None


class IncidentDetails(Incident):
    """An incident with its actions and approval requests."""

    agent_run_id: str = Field(description="The id of the incident's agent run in telemetry; `lab rca` explains it.")
    actions: list[ActionRecord]
    questions: list[Question]


class Triggered(_View):
    """The incident that a person's report opened or joined."""

    incident_id: str
    created: bool = Field(description="False if an incident was open already; the report was added to it.")


class AlertsAccepted(_View):
    """The result of receiving alerts from Alertmanager: how many of them were new or changed, and their incident."""

    fresh: int = Field(description="The number of its alerts that are new or changed.")
    incident_id: str | None = Field(description="The incident that they opened or joined; null if there is none.")
    created: bool


def open_incident(incident: Incident, acts: Sequence[ActionRecord]) -> OpenIncident:
    """Return the summary of an open incident with its actions."""
    return OpenIncident(
        id=incident.incident_id,
        title=incident.title,
        severity=incident.severity,
        status=incident.status,
        phase=ESCALATED if incident.status is IncidentStatus.ESCALATED else incident.phase.value,
        opened_at=incident.opened_at,
        diagnosis=_thoughts(incident),
        actions=[
            ActionSummary(action=act.action, verdict=None if act.effect is None else act.effect.value) for act in acts
        ],
    )


def _thoughts(incident: Incident) -> list[LikelyCause]:
    listed = incident.content.get("candidates")
    found = [
        LikelyCause(cause=item["cause"], probability=item["probability"])
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict)
        and isinstance(item.get("cause"), str)
        and isinstance(item.get("probability"), int | float)
    ]
    if not found and incident.diagnosis is not None:
        return [LikelyCause(cause=incident.diagnosis, probability=incident.probability or 0.0)]
    return found
