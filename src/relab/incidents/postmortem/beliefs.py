"""Extract the diagnoses from a timeline, in order, and why each was given up. Pure; any timeline is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from relab.incidents.postmortem.models import Belief
from relab.incidents.storage.models import EventKind, Outcome, TimelineEvent

DIAGNOSED: Final = "diagnosed"
_MOST_BELIEFS: Final = 100
_MOST_TEXT: Final = 500
_PAIR: Final = 2
_PROBABLE: Final = 0.5
_REASONS: Final = frozenset(
    (
        "verified", "looks_again", "not_asked", "refused", "stood_down", "question_over",
        EventKind.ACT_FINISHED, EventKind.APPROVAL_DECIDED, EventKind.APPROVAL_WITHDRAWN,
    )
)  # fmt: skip
"""Kinds of events after which the responder diagnoses again."""
_LOOKED: Final = "Fresh looks showed otherwise."
_STANDS: Final = "It was not given up."
_ENDS: Final = {
    Outcome.RESOLVED: "It was mended, and verified.",
    Outcome.ESCALATED: "It was the last one; a person ended the incident.",
    Outcome.PASSED: "It was the last one; the incident ended without a verified repair.",
    Outcome.DISMISSED: "A person has dismissed the incident as a false positive.",
}


def beliefs(events: Sequence[TimelineEvent], outcome: Outcome | None) -> tuple[Belief, ...]:
    """Return the diagnoses of a timeline in order; equal ones in a row are merged, with the latest values.

    Args:
        events: the timeline of the incident.
        outcome: of the incident; None if it is not over.
    """
    found: list[Belief] = []
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
                    found[-1] = _given_up(found[-1], reason or _LOOKED)
                found.append(fresh)
            reason = ""
        elif event.kind in _REASONS and found:
            reason = event.message[:_MOST_TEXT] or reason
    if found:
        found[-1] = _given_up(found[-1], _STANDS if outcome is None else _ENDS[outcome])
    if len(found) > _MOST_BELIEFS:
        half = _MOST_BELIEFS // 2
        found = [*found[:half], *found[-half:]]
    return tuple(found)


def _read(event: TimelineEvent) -> Belief | None:
    rows = event.content.get("candidates")
    best = _mapping(rows[0]) if isinstance(rows, list) and rows else {}
    cause, probability = best.get("cause"), _share(best.get("probability"))
    if not isinstance(cause, str):
        return None
    told = event.content.get("together")
    pair = _mapping(told[0]) if isinstance(told, list) and told else {}
    both, causes = _share(pair.get("probability")), pair.get("causes")
    if (both or 0.0) > _PROBABLE and isinstance(causes, list) and len(causes) == _PAIR:
        named = tuple(str(each)[:_MOST_TEXT] for each in causes)
        return Belief(event.at, named, both, event.evidence, event.content.get("is_confirmed") is True)
    is_confirmed = event.content.get("is_confirmed") is True
    return Belief(event.at, (cause[:_MOST_TEXT],), probability, event.evidence, is_confirmed)


def _again(earlier: Belief, fresh: Belief) -> Belief:
    """Return the merger of two equal diagnoses: the values of the later one with the time of the earlier one."""
    return Belief(
        earlier.at, fresh.causes, fresh.probability, fresh.evidence, earlier.is_confirmed or fresh.is_confirmed
    )


def _given_up(belief: Belief, why: str) -> Belief:
    return Belief(belief.at, belief.causes, belief.probability, belief.evidence, belief.is_confirmed, why)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _share(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None
