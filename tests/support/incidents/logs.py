"""Values for tests of the incident log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from relab.incidents.actions.approvals import ApprovalRequest
from relab.incidents.actions.catalogue import UserImpact
from relab.incidents.actions.planning import ActionPlan
from relab.incidents.actions.records import ActionRecord, ActionStatus, idempotency_key
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident
from relab.storage import Database
from support.incidents.acts import NOW_US, act

Result = TypeVar("Result")

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US


def anomaly(signal: str = "errors.pct", severity: Severity = Severity.DEGRADED, **more: Any) -> Anomaly:
    """Return an anomaly that a detector found."""
    given = {"detector": "level_shift", "value": 60.0, "expected": 1.0, "detail": f"{signal} is high.", **more}
    return Anomaly(signal=signal, severity=severity, **given)


def opened(log: IncidentLog, target: str, *, at_us: int = NOW_US) -> Incident:
    """Return a new incident of a target."""
    made = log.open(target, at_us=at_us, title="Errors", severity=Severity.DEGRADED, anomalies=[anomaly()])
    assert made.created
    return made.incident


def asked(incident_id: str, attempt: int = 1, **more: Any) -> ActionRecord:
    """Return the record of an action that the responder is about to request."""
    action = more.get("action", "restart-worker")
    given = {
        "key": idempotency_key(incident_id, attempt, action),
        "status": ActionStatus.ASKED,
        "asked_at": NOW_US,
        **more,
    }
    return act(incident_id=incident_id, attempt=attempt, **given)


def plan(**more: Any) -> ActionPlan:
    """Return a plan to restart a worker."""
    given = {
        "cause": "process_stopped",
        "probability": 0.97,
        "confidence": 0.98,
        "action": "restart-worker",
        "action_class": "restart",
        "blast_radius": UserImpact.SOME_REQUESTS,
        "target": "target",
        "parameters": {"worker": 1},
        **more,
    }
    return ActionPlan.model_validate(given)


def question(incident_id: str, approval_id: str, **more: Any) -> ApprovalRequest:
    """Return a request to approve `plan()`, which expires after a minute."""
    given = {
        "approval_id": approval_id,
        "incident_id": incident_id,
        "plan": plan(),
        "state_digest": "sha256:0",
        "ground": "Restarts are approved by a person.",
        "asked_at": NOW_US,
        "expires_at": NOW_US + MINUTE_US,
        **more,
    }
    return ApprovalRequest.model_validate(given)


def at_once(url: str, pieces: Sequence[Callable[[IncidentLog], Result]]) -> list[Result]:
    """Run each piece of work in a separate thread and on a separate database connection, all starting together."""
    barrier = threading.Barrier(len(pieces))

    def run(piece: Callable[[IncidentLog], Result]) -> Result:
        database = Database.open(url)
        try:
            database.ping()
            barrier.wait()
            return piece(IncidentLog(database))
        finally:
            database.close()

    with ThreadPoolExecutor(len(pieces)) as threads:
        return list(threads.map(run, pieces))
