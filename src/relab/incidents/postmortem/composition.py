"""Compose the postmortem of an incident from its stored data. Pure; any content of a timeline is accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from relab.core.clock import format_time
from relab.core.durations import duration_text
from relab.core.json import canonical_json
from relab.incidents.actions.records import ActionRecord, ActionStatus, RepairResult
from relab.incidents.postmortem.diagnosis_history import diagnosis_periods
from relab.incidents.postmortem.follow_ups import follow_ups
from relab.incidents.postmortem.models import (
    ActionReview,
    ChartMark,
    CitedEvidence,
    DiagnosisPeriod,
    IncidentRecord,
    MarkKind,
    Postmortem,
    Signals,
    SignalSeries,
    TimelineEntry,
)
from relab.incidents.postmortem.samples import changes, gaps, in_words
from relab.incidents.postmortem.signal_events import KIND, recorded, thinned
from relab.incidents.storage.models import EventKind, IncidentOutcome
from relab.incidents.storage.text_limits import bounded

MAX_ENTRIES: Final = 400
MAX_EXHIBITS: Final = 100
_MAX_TEXT: Final = 500
_MAX_DOCUMENT: Final = 8_000
_US: Final = 1_000_000
_DAYS_FROM_S: Final = 2 * 86_400
_VERIFIED: Final = "verified"
_EXHIBIT: Final = ("fact", "value", "request", "verbatim")
_LEVELS: Final = frozenset(("level_shift", "seed_rule"))
"""Detectors whose `expected` is a value of the signal itself, so that samples can be compared with it."""
_OUTCOMES: Final = {
    IncidentOutcome.RESOLVED: "resolved by the responder, and verified",
    IncidentOutcome.ESCALATED: "ended by a person",
    IncidentOutcome.PASSED: "ended without a verified repair",
    IncidentOutcome.DISMISSED: "dismissed as a false positive by a person",
    IncidentOutcome.CLOSED_BY_PERSON: "closed as repaired by a person, and not verified",
}
_EFFECTS: Final = {
    RepairResult.VERIFIED: "It helped: users were served well, and the cause was gone.",
    RepairResult.MITIGATED: "Its cause was gone afterwards; it was not verified that users were served as usual.",
    RepairResult.FAILED: "Verification did not confirm that it helped.",
    RepairResult.WORSE: "The figures were worse afterwards.",
}
_STATUSES: Final = {
    ActionStatus.ASKED: "Its result was not recorded.",
    ActionStatus.SUCCEEDED: "It was done; whether it helped was not recorded.",
    ActionStatus.FAILED: "It was started and did not succeed.",
    ActionStatus.REFUSED: "It was refused; nothing was done.",
    ActionStatus.UNDONE: "It was undone.",
}


def compose(case: IncidentRecord) -> Postmortem:
    """Return the postmortem of an incident; it covers the time until now if the incident is still open."""
    incident, signals = case.incident, recorded(case.events)
    onset_us = onset(case, signals)
    periods = diagnosis_periods(case.events, case.incident.outcome)
    attempts = (*_attempts(case, signals), *_attempts_of_others(case))
    entries = [
        TimelineEntry(event.at, event.kind, event.message, event.evidence)
        for event in case.events
        if event.kind != KIND
    ]
    return Postmortem(
        incident_id=incident.incident_id,
        is_over=incident.closed_at is not None,
        title=incident.title or incident.incident_id,
        overview=tuple(_overview(case, onset_us, periods)),
        summary=tuple(_summary(case, onset_us)),
        timeline=tuple(_bounded(entries)),
        left_out=max(len(entries) - MAX_ENTRIES, 0),
        evidence=tuple(_exhibits(case)),
        actions=attempts,
        worked=_worked(case, attempts),
        follow_ups=tuple(follow_ups(case, onset_us)),
        marks=tuple(sorted(_marks(case, onset_us), key=lambda mark: mark.at)),
        signals=tuple(
            SignalSeries(name, tuple(thinned(points)), gaps(signals, name))
            for name in signals.numbers
            if (points := signals.points(name))
        ),
        diagnoses=periods,
    )


def onset(case: IncidentRecord, signals: Signals) -> int:
    """Return when an incident began, in microseconds since 1970: the earliest of these times.

    - The incident was opened.
    - A finding (anomaly) of the incident was first seen.
    - A signal in a finding of the detector `level_shift` or `seed_rule` rose above its bound, and all later samples
      until the incident was opened were above it.
    """
    opened_us = case.incident.opened_at
    found = [opened_us, *(finding.first_at for finding in case.incident.findings)]
    for finding in case.incident.findings:
        if finding.detector not in _LEVELS or finding.expected is None:
            continue
        for at_us, value in reversed(signals.points(finding.signal)):
            if at_us > opened_us:
                continue
            if value <= finding.expected:
                break
            found.append(at_us)
    return min(found)


def lasted(us: int) -> str:
    """Return a duration in words, such as `90 s`, `12 min`, `3 h 5 min` or `9.5 days`. `us` is in microseconds."""
    seconds = us / _US
    if seconds >= _DAYS_FROM_S:
        return duration_text(us / 1_000)
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _overview(case: IncidentRecord, onset_us: int, periods: Sequence[DiagnosisPeriod]) -> Iterator[tuple[str, str]]:
    incident = case.incident
    yield "incident", incident.incident_id
    yield "target", incident.target
    yield "severity", incident.severity.value
    yield "status", incident.status.value
    yield "outcome", "not over yet" if incident.outcome is None else _OUTCOMES[incident.outcome]
    yield "onset", format_time(onset_us)
    yield "detected", format_time(incident.opened_at)
    if incident.closed_at is not None:
        yield "ended", format_time(incident.closed_at)
    if incident.diagnosis is not None:
        sure = "" if incident.probability is None else f", with a probability of {incident.probability:.2f}"
        yield "diagnosis", f"{incident.diagnosis}{sure}"
    if len(periods) > 1:
        first = periods[0]
        sure = "" if first.probability is None else f" ({first.probability:.2f})"
        yield "first diagnosis", f"{' and '.join(first.causes)}{sure}: {first.ended}"
    yield "actions", str(sum(act.counts for act in case.actions))


def _summary(case: IncidentRecord, onset_us: int) -> Iterator[str]:
    incident = case.incident
    yield f"It was detected {lasted(incident.opened_at - onset_us)} after its onset."
    if incident.closed_at is None:
        yield "It has not ended."
    else:
        yield f"It ended {lasted(max(incident.closed_at - incident.opened_at, 0))} after its detection."
    for finding in incident.findings[:5]:
        yield f"Found: {finding.detail or finding.signal}"
    ended = [event.message for event in case.events if event.is_terminal]
    if said := next(reversed(ended), incident.recommendation):
        yield said


def _bounded(entries: Sequence[TimelineEntry]) -> Sequence[TimelineEntry]:
    """Return at most `MAX_ENTRIES` entries: the first and the last ones, because the middle is least informative."""
    if len(entries) <= MAX_ENTRIES:
        return entries
    half = MAX_ENTRIES // 2
    return [*entries[:half], *entries[-half:]]


def _exhibits(case: IncidentRecord) -> Iterator[CitedEvidence]:
    """Yield at most `MAX_EXHIBITS` pieces of evidence that `case`'s timeline cites, each once, the latest first."""
    seen: set[str] = set()
    # The final decisions are based on the latest evidence.
    for event in reversed(case.events):
        rows = event.content.get("evidence")
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, Mapping) or not isinstance(row.get("evidence_id"), str):
                continue
            evidence_id = row["evidence_id"]
            if evidence_id in seen or len(seen) >= MAX_EXHIBITS:
                continue
            seen.add(evidence_id)
            fact, value, request, verbatim = (_text(row.get(name)) for name in _EXHIBIT)
            yield CitedEvidence(evidence_id, fact, value, request, verbatim)


def _attempts(case: IncidentRecord, signals: Signals) -> Iterator[ActionReview]:
    """Yield the responder's actions in an incident, each with its effect on the signals and its last verdict."""
    verdicts, closed_us = _verdicts(case), case.incident.closed_at
    # A refused action changed nothing, so it does not end the time of the action before it.
    begins = [act.asked_at for act in case.actions if act.status is not ActionStatus.REFUSED]
    for act in case.actions:
        later = [at_us for at_us in (*begins, closed_us) if at_us is not None and at_us > act.asked_at]
        ended_us = act.asked_at if act.finished_at is None else max(act.finished_at, act.asked_at)
        changed = changes(signals, act.asked_at, ended_us, min(later, default=None)) if act.counts else []
        found = _attempt(act, in_words(changed), any(change.has_eased for change in changed), verdicts.get(act.key, ""))
        if case.incident.outcome is IncidentOutcome.RESOLVED and _is_of_another_cause(act, case):
            # The action ended one of two causes, so it was needed for the recovery.
            found = replace(found, has_helped=True)
        yield found


def _verdicts(case: IncidentRecord) -> dict[str, str]:
    """Return `{key of the action: text of the last verification verdict on the action}`."""
    found: dict[str, str] = {}
    key = ""
    for event in case.events:
        act = event.content.get("act")
        if event.kind == EventKind.ACT_ASKED and isinstance(act, Mapping):
            key = _text(act.get("key"))
        # A verdict does not name its action: it belongs to the last action requested before it.
        elif event.kind == _VERIFIED:
            found[key] = event.message[:_MAX_TEXT]
    return found


def _attempt(act: ActionRecord, measured: str, has_eased: bool, verdict: str) -> ActionReview:
    said = _STATUSES[act.status] if act.effect is None else _EFFECTS[act.effect]
    if verdict and act.effect not in {None, RepairResult.VERIFIED}:
        said = f"{said} {verdict}"
    if act.status is ActionStatus.UNDONE and act.effect is not None:
        said = f"{said} {_STATUSES[act.status]}"
    return ActionReview(
        at=act.asked_at,
        action=act.action,
        parameters=_parameters(act.parameters),
        by=f"the responder, approved by {act.approved_by}" if act.approved_by else "the responder",
        why=act.why,
        result=f"{said} {act.error}" if act.error else said,
        has_helped=act.effect is RepairResult.VERIFIED,
        measured=measured,
        has_eased=has_eased,
    )


def _attempts_of_others(case: IncidentRecord) -> Iterator[ActionReview]:
    """Yield the actions that people or other clients of the action server executed."""
    closed = next((event for event in reversed(case.events) if event.is_terminal), None)
    rows = None if closed is None else closed.content.get("tried")
    # The list omits actions that undid another action or ended another cause.
    # The event that closes the incident lists the responder's own actions first, then all others.
    own = sum(act.undoes is None and not _is_of_another_cause(act, case) for act in case.actions)
    for row in rows[own:] if isinstance(rows, list) else ():
        if isinstance(row, Mapping) and isinstance(row.get("action"), str):
            has_helped = row.get("outcome") == "helped"
            said = (
                "It was the last action before the recovery."
                if has_helped
                else "The service had not recovered after it."
            )
            parameters = row.get("parameters")
            values = _parameters(parameters if isinstance(parameters, Mapping) else {})
            yield ActionReview(None, row["action"], values, "somebody else", "", said, has_helped)


def _is_of_another_cause(act: ActionRecord, case: IncidentRecord) -> bool:
    """Return whether an action repaired a cause other than the last diagnosed cause of the incident."""
    return act.effect is RepairResult.MITIGATED and act.cause != case.incident.diagnosis


def _worked(case: IncidentRecord, attempts: Sequence[ActionReview]) -> str:
    """Return a text about what ended the incident `case`.

    The text names the actions that helped according to their verification. Without such an action, it names the actions
    after which figures improved. `attempts` are the incident's actions, each with its verified result and the figures
    before and after it.
    """
    helped = [attempt for attempt in attempts if attempt.has_helped]
    if helped:
        by = " and ".join(dict.fromkeys(f"{attempt.action}, done by {attempt.by}" for attempt in helped))
        return f"What ended it: {by}."
    is_over = case.incident.outcome is not None
    eased = [attempt for attempt in attempts if attempt.has_eased]
    if eased:
        said = " ".join(f"After {each.action}, done by {each.by}: {each.measured}. {each.result}" for each in eased)
        end = "No action is verified to have ended it" if is_over else "No action is verified to have helped so far"
        return f"{end}, but figures improved after these actions. {said}"
    if not any(attempt.at is None or attempt.measured for attempt in attempts):
        return "No action is known to have ended it." if attempts else "No action was executed."
    return "No action is verified to have ended it, and no samples show an improvement after one."


def _marks(case: IncidentRecord, onset_us: int) -> Iterator[ChartMark]:
    incident = case.incident
    yield ChartMark(onset_us, MarkKind.ONSET, "onset")
    yield ChartMark(incident.opened_at, MarkKind.DETECTION, "detection")
    for act in case.actions:
        yield ChartMark(act.asked_at, MarkKind.ACTION, act.action)
    for event in case.events:
        if event.kind == _VERIFIED:
            yield ChartMark(event.at, MarkKind.VERIFICATION, _text(event.content.get("outcome")) or _VERIFIED)
    if incident.closed_at is not None:
        yield ChartMark(incident.closed_at, MarkKind.END, "end")


def _parameters(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in parameters.items())[:_MAX_TEXT]


def _text(value: Any) -> str:
    """Return a value from an untrusted document as a short text: JSON if it is not a string, empty if it is None."""
    if value is None:
        return ""
    return (value if isinstance(value, str) else canonical_json(bounded(value, _MAX_DOCUMENT)))[:_MAX_TEXT]
