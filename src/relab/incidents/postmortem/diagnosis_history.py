"""List the diagnoses in a timeline, in order, each with the reason why it was given up or kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from relab.core.json import is_number
from relab.incidents.postmortem.models import DiagnosisPeriod
from relab.incidents.storage.models import EventKind, IncidentOutcome, TimelineEvent

DIAGNOSED: Final = "diagnosed"
_MAX_BELIEFS: Final = 100
_MAX_TEXT: Final = 500
_PAIR: Final = 2
_PROBABLE: Final = 0.5
_REASONS: Final = frozenset(
    (
        "verified", "looks_again", "not_asked", "not_possible", "refused", "stood_down", "question_over",
        EventKind.ACT_FINISHED, EventKind.APPROVAL_DECIDED, EventKind.APPROVAL_WITHDRAWN,
    )
)  # fmt: skip
"""Kinds of events after which the responder diagnoses again."""
_PROBED: Final = "New probes showed otherwise."
_STANDS: Final = "It was not given up."
_ENDS: Final = {
    IncidentOutcome.RESOLVED: "It was repaired, and verified.",
    IncidentOutcome.ESCALATED: "It was the last one; a person ended the incident.",
    IncidentOutcome.PASSED: "It was the last one; the incident ended without a verified repair.",
    IncidentOutcome.DISMISSED: "A person has dismissed the incident as a false positive.",
    IncidentOutcome.CLOSED_BY_PERSON: "It was the last one; a person closed the incident as repaired.",
}


def diagnosis_periods(events: Sequence[TimelineEvent], outcome: IncidentOutcome | None) -> tuple[DiagnosisPeriod, ...]:
    """Return the diagnoses of a timeline in order, with consecutive diagnoses of the same causes merged.

    If there are more than `_MAX_BELIEFS`, only the first and the last ones are returned, half of `_MAX_BELIEFS` each.

    Args:
        events: the timeline of the incident.
        outcome: how the incident ended; None if it is not over.
    """
    found: list[DiagnosisPeriod] = []
    reason = ""
    for event in events:
        if event.kind == DIAGNOSED:
            fresh = _read(event)
            if fresh is None:
                continue
            if found and set(found[-1].causes) == set(fresh.causes):
                found[-1] = _again(found[-1], fresh)
            else:
                if found:
                    found[-1] = _given_up(found[-1], reason or _PROBED)
                found.append(fresh)
            reason = ""
        elif event.kind in _REASONS and found:
            reason = event.message[:_MAX_TEXT] or reason
    if found:
        found[-1] = _given_up(found[-1], _STANDS if outcome is None else _ENDS[outcome])
    if len(found) > _MAX_BELIEFS:
        half = _MAX_BELIEFS // 2
        found = [*found[:half], *found[-half:]]
    return tuple(found)


def _read(event: TimelineEvent) -> DiagnosisPeriod | None:
    rows = event.content.get("candidates")
    best = _mapping(rows[0]) if isinstance(rows, list) and rows else {}
    cause, probability = best.get("cause"), _share(best.get("probability"))
    if not isinstance(cause, str):
        return None
    probabilities = event.content.get("together")
    pair = _mapping(probabilities[0]) if isinstance(probabilities, list) and probabilities else {}
    both, causes = _share(pair.get("probability")), pair.get("causes")
    if (both or 0.0) > _PROBABLE and isinstance(causes, list) and len(causes) == _PAIR:
        named = tuple(str(each)[:_MAX_TEXT] for each in causes)
        return DiagnosisPeriod(event.at, named, both, event.evidence, event.content.get("is_confirmed") is True)
    is_confirmed = event.content.get("is_confirmed") is True
    return DiagnosisPeriod(event.at, (cause[:_MAX_TEXT],), probability, event.evidence, is_confirmed)


def _again(earlier: DiagnosisPeriod, fresh: DiagnosisPeriod) -> DiagnosisPeriod:
    """Merge a diagnosis with a later diagnosis of the same causes.

    The result has the time of `earlier` and the other values of `fresh`. It is confirmed if `earlier` or `fresh` is.
    """
    return DiagnosisPeriod(
        earlier.at, fresh.causes, fresh.probability, fresh.evidence, earlier.is_confirmed or fresh.is_confirmed
    )


def _given_up(belief: DiagnosisPeriod, why: str) -> DiagnosisPeriod:
    return DiagnosisPeriod(belief.at, belief.causes, belief.probability, belief.evidence, belief.is_confirmed, why)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _share(value: Any) -> float | None:
    return float(value) if is_number(value) and 0 <= value <= 1 else None
