"""Incidents that are stored as a responder stores them, for tests of their reports."""

from __future__ import annotations

from collections.abc import Sequence

from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.models import Snapshot
from relab.incidents.postmortem.signal_events import signals_event
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, IncidentStatus, NewEvent, Phase
from support.incidents.logs import anomaly, asked
from support.incidents.postmortems import EVIDENCE

SECOND_US = 1_000_000


def looked(now_us: int, *names: str, absent: str = "") -> NewEvent:
    """Return the event of some probes; with `absent` the last probe has no response, for this reason."""
    rows = [
        {"look": name, "facts": {} if absent and name == names[-1] else {f"{name}.fact": 1.0}, "absent": {}}
        for name in names
    ]
    if absent:
        rows[-1]["absent"] = {"target GET /api/v1/health": absent}
    return NewEvent("looked", f"Looked at {', '.join(names)}.", {"began_us": now_us - 80_000, "looks": rows})


def begun(log: IncidentLog, target: str, now_us: int, *, title: str = "errors.pct is 38, usual is 0") -> str:
    """Store an incident that began a minute ago and was diagnosed, and return its id."""
    at_us = now_us - 60 * SECOND_US
    found = log.open(target, at_us=at_us, title=title, severity=anomaly().severity, anomalies=[anomaly()])
    incident_id = found.incident.incident_id
    polls = [
        Snapshot(at_us + second * SECOND_US, numbers={"errors.pct": 38.0 if second > -10 else 0.0})
        for second in range(-60, 1)
    ]
    log.append(incident_id, signals_event(polls, at_us, ["errors.pct"], once="signals.1"), at_us=at_us)
    log.append(incident_id, looked(at_us + SECOND_US, "service", "logs"), at_us=at_us + SECOND_US)
    log.update(incident_id, at_us=at_us + SECOND_US, phase=Phase.GATHER, events=[NewEvent("gathered", "2 facts.")])
    diagnosed = NewEvent("diagnosed", "The cause is cache_down.", {"evidence": [EVIDENCE]}, ["ev-7f3a"])
    log.update(
        incident_id, at_us=at_us + 2 * SECOND_US, phase=Phase.INVESTIGATE, events=[diagnosed], diagnosis="cache_down",
        probability=0.97,
    )  # fmt: skip
    return incident_id


def attempted(log: IncidentLog, incident_id: str, at_us: int, effects: Sequence[RepairResult | str]) -> None:
    """Store actions of an incident, one per effect; a text is the error of a failed action."""
    for attempt, effect in enumerate(effects, 1):
        now_us = at_us + attempt * 10 * SECOND_US
        act = asked(incident_id, attempt, asked_at=now_us, cause="cache_down", parameters={"worker": attempt})
        planned = NewEvent("planned", f"{act.action}: {act.cause}", {"plan": {"action": act.action}})
        log.update(incident_id, at_us=now_us - SECOND_US, phase=Phase.PLAN, events=[planned])
        log.actions.put(act)
        is_error = not isinstance(effect, RepairResult)
        status = ActionStatus.FAILED if is_error else ActionStatus.SUCCEEDED
        log.actions.finish(act.key, status, at_us=now_us + SECOND_US, error=str(effect) if is_error else None)
        if isinstance(effect, RepairResult):
            log.actions.note_effect(act.key, effect.as_effect, at_us=now_us + 5 * SECOND_US)
            told = NewEvent("verified", f"Seen by users: {effect}.", {"outcome": effect.value})
            log.update(incident_id, at_us=now_us + 5 * SECOND_US, phase=Phase.VERIFY, events=[told])


def mended(log: IncidentLog, target: str, now_us: int) -> str:
    """Store an incident that the responder has repaired with its second action, and return its id."""
    incident_id = begun(log, target, now_us)
    attempted(log, incident_id, now_us - 58 * SECOND_US, [RepairResult.FAILED, RepairResult.VERIFIED])
    log.close(incident_id, at_us=now_us, outcome=IncidentOutcome.RESOLVED, message="cache_down is mended.")
    return incident_id


def handed_over(log: IncidentLog, target: str, now_us: int, errors: Sequence[RepairResult | str]) -> str:
    """Store an incident that was escalated to a person after all actions failed, and return its id."""
    incident_id = begun(log, target, now_us)
    attempted(log, incident_id, now_us - 58 * SECOND_US, errors)
    said = "A person is needed. There is no act left that has not been tried."
    log.update(
        incident_id, at_us=now_us, phase=Phase.ESCALATE, status=IncidentStatus.ESCALATED, recommendation=said,
        events=[NewEvent("escalated", said, {"diagnosis": "cache_down"})],
    )  # fmt: skip
    return incident_id
