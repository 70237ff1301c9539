"""Stored incidents that have ended, for tests of postmortems."""

from __future__ import annotations

from typing import Any

from relab.incidents.actions.records import RepairResult
from relab.incidents.models import Severity, Snapshot
from relab.incidents.postmortem.models import IncidentRecord
from relab.incidents.postmortem.signal_events import KIND, signals_event
from relab.incidents.storage.models import (
    EventKind,
    Incident,
    IncidentFinding,
    IncidentOutcome,
    IncidentStatus,
    Phase,
    TimelineEvent,
)
from support.incidents.acts import NOW_US, SECOND_US, act

OPENED_US = NOW_US
CLOSED_US = NOW_US + 95 * SECOND_US
EVIDENCE = {
    "evidence_id": "ev-7f3a", "look": "processes", "request": "actions GET /components", "pointer": "/components/0",
    "fact": "cache.process", "value": "exited", "verbatim": '"exited"', "at_us": NOW_US,
}  # fmt: skip


def incident(**more: Any) -> Incident:
    """Return an incident that the responder has repaired."""
    given = {
        "incident_id": "i1", "target": "shop", "title": "errors.pct is 38, usual is 0", "severity": Severity.DEGRADED,
        "status": IncidentStatus.RESOLVED, "phase": Phase.LEARN, "outcome": IncidentOutcome.RESOLVED,
        "diagnosis": "cache_down", "probability": 0.97, "recommendation": "", "opened_at": OPENED_US,
        "updated_at": CLOSED_US, "closed_at": CLOSED_US, "last_seq": 4, "findings": (finding(),),
        "symptoms": {"cache.process": "exited"}, "plan": None, "content": {}, **more,
    }  # fmt: skip
    return Incident.model_validate(given)


def finding(**more: Any) -> IncidentFinding:
    """Return a level shift of the errors."""
    given = {
        "detector": "level_shift", "signal": "errors.pct", "severity": Severity.DEGRADED, "value": 38.0,
        "expected": 1.0, "detail": "errors.pct is 38, usual is 0", "opens": True, "first_at": OPENED_US,
        "last_at": OPENED_US + 40 * SECOND_US, **more,
    }  # fmt: skip
    return IncidentFinding.model_validate(given)


def event(seq: int, kind: str, message: str = "", **more: Any) -> TimelineEvent:
    """Return an event that occurred `seq` seconds after the detection."""
    given = {"content": {}, "evidence": (), "at": OPENED_US + seq * SECOND_US, **more}
    return TimelineEvent(incident_id="i1", seq=seq, kind=kind, message=message, **given)


def polls() -> list[Snapshot]:
    """Return polls every 5 s, with errors from 20 s before the detection until 60 s after it."""
    found = []
    for second in range(-100, 101, 5):
        is_wrong = -20 <= second < 60
        numbers = {"errors.pct": 38.0 if is_wrong else 0.0, "latency.p95_ms": 900.0 if is_wrong else 12.0}
        found.append(Snapshot(OPENED_US + second * SECOND_US, numbers=numbers))
    return found


def signals() -> TimelineEvent:
    """Return the event that contains the polls of `polls()`."""
    told = signals_event(polls(), OPENED_US, ["errors.pct"], once="signals.learn")
    return event(3, KIND, told.message, content=dict(told.content))


def case(**more: Any) -> IncidentRecord:
    """Return all records of an incident that the responder has repaired with its second action."""
    events = [
        event(1, EventKind.OPENED, "Opened."),
        event(2, "diagnosed", "The cause is cache_down.", content={"evidence": [EVIDENCE]}, evidence=("ev-7f3a",)),
        signals(),
        event(4, EventKind.CLOSED, "cache_down is mended.", at=CLOSED_US),
    ]
    acts = [
        act(action="use-path", key="i1:1", effect=RepairResult.FAILED, cause="cache_path_reset", why="Another path."),
        act(
            action="restart-cache",
            key="i1:2",
            attempt=2,
            effect=RepairResult.VERIFIED,
            approved_by="ada",
            cause="cache_down",
        ),
    ]
    given = {"incident": incident(), "events": events, "actions": acts, **more}
    return IncidentRecord(**given)
