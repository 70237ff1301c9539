"""Values about the responder and its incidents that API and CLI show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp
from relab.incidents.acting.approvals import ApprovalRequest, Decision
from relab.incidents.acting.policy import Autonomy
from relab.incidents.acting.records import ActRecord
from relab.incidents.models import Severity
from relab.incidents.storage.models import Incident, IncidentStatus

ESCALATED: Final = "escalated"
"""The phase in a status if a person is in charge of the incident."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Thought(_View):
    """A cause, and how likely it is."""

    cause: str
    probability: float


class ActSummary(_View):
    """Something that was done for an incident."""

    action: str
    verdict: str | None = Field(description="What came of it, as users saw it; null while that is not known.")


class OpenIncident(_View):
    """The open incident of a target, in short."""

    id: str
    title: str
    severity: Severity
    status: IncidentStatus
    phase: str = Field(description="The node that is at work; `escalated`: a person has it.")
    opened_at: Timestamp
    diagnosis: list[Thought] = Field(description="The likeliest first; empty as long as there is none.")
    acts: list[ActSummary] = Field(description="What was done for it, the first first.")


class ResponderStatus(_View):
    """What the responder is doing."""

    target: str | None = Field(description="What is watched; null: nothing is.")
    autonomy: Autonomy
    autonomy_by_class: dict[str, Autonomy]
    leading: bool = Field(description="This process polls the target; of several, one does.")
    polls: int = Field(description="How often this process has polled since its start.")
    polled_at: Timestamp | None = Field(description="When it did so last.")
    paused: bool
    paused_by: str | None
    incident: OpenIncident | None
    approvals: list[str] = Field(description="Ids of the questions that wait for a person.")
    cost_usd: float = Field(description="What language models have cost.")
    tokens: int = Field(description="That language models have read and written.")


class Question(_View):
    """A question to people, and their answer."""

    request: ApprovalRequest
    decision: Decision | None


class IncidentDetails(Incident):
    """An incident with what was asked for, and what people were asked."""

    agent_run_id: str = Field(
        description="Of the agent run that it is in telemetry, seconds after each event; `lab rca` explains it."
    )
    acts: list[ActRecord]
    questions: list[Question]


class Triggered(_View):
    """What came of saying that something is wrong."""

    incident_id: str
    created: bool = Field(description="False: an incident was open, and this has joined it.")


class AlertsTaken(_View):
    """What came of a notification."""

    fresh: int = Field(description="How many of its alerts say something that was not known.")
    incident_id: str | None = Field(description="That they opened or joined; null if none did.")
    created: bool


def open_incident(incident: Incident, acts: Sequence[ActRecord]) -> OpenIncident:
    """Return the summary of an open incident, with its acts."""
    return OpenIncident(
        id=incident.incident_id,
        title=incident.title,
        severity=incident.severity,
        status=incident.status,
        phase=ESCALATED if incident.status is IncidentStatus.ESCALATED else incident.phase.value,
        opened_at=incident.opened_at,
        diagnosis=_thoughts(incident),
        acts=[ActSummary(action=act.action, verdict=None if act.effect is None else act.effect.value) for act in acts],
    )


def _thoughts(incident: Incident) -> list[Thought]:
    told = incident.content.get("candidates")
    found = [
        Thought(cause=item["cause"], probability=item["probability"])
        for item in (told if isinstance(told, list) else [])
        if isinstance(item, dict)
        and isinstance(item.get("cause"), str)
        and isinstance(item.get("probability"), int | float)
    ]
    if not found and incident.diagnosis is not None:
        return [Thought(cause=incident.diagnosis, probability=incident.probability or 0.0)]
    return found
