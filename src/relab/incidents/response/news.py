"""Notify people of news of an open incident, and begin a new diagnosis because of it.

News is an outage that began, or became much worse, after people were last notified. The polling loop finds news and
appends it to the timeline; the incident's workflow reads it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.incidents.detection.outages import OutageNews, OutageNewsKind
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.state import IncidentState
from relab.incidents.storage.models import Incident, IncidentStatus, NewEvent, TimelineEvent

NEWS: Final = "news"
"""The value with which a waiting approval is resumed if there is news."""
MAX_REDIAGNOSES: Final = 3
"""How often within an hour the graph diagnoses again because of news; people are notified of all news."""
_REDIAGNOSES_US: Final = 3_600 * 1_000_000
RECURRED: Final = "recurred"
WORSENED: Final = "worsened"
NOTIFIES: Final = frozenset(
    ("opened", "approval_asked", "act_finished", "escalated", "failed", "not_undone", RECURRED, WORSENED)
)
"""The kinds of events that are always sent to people."""
HANDED_OVER: Final = frozenset((IncidentStatus.ESCALATED, IncidentStatus.WAITING_APPROVAL))
_RECENT_EVENTS: Final = 300
_MAX_DETAILS: Final = 3
_SENTENCES: Final = {
    OutageNewsKind.RECURRED: "It recovered and then recurred",
    OutageNewsKind.NEW: "Now also",
    OutageNewsKind.WORSE: "Much worse",
}


def event_of_news(news: Sequence[OutageNews]) -> NewEvent:
    """Return the timeline event that notifies people of `news`: outages that are new, worse, or back after a recovery.

    The message of the event describes the first three outages.
    """
    said = "; ".join(item.anomaly.detail or item.anomaly.signal for item in news[:_MAX_DETAILS])
    more = f"; and {len(news) - _MAX_DETAILS} more" if len(news) > _MAX_DETAILS else ""
    is_again = any(item.kind is OutageNewsKind.RECURRED for item in news)
    content = {
        "signals": [item.anomaly.signal for item in news],
        "kinds": [item.kind.value for item in news],
        "began_at": min(item.began_us for item in news),
    }
    return NewEvent(RECURRED if is_again else WORSENED, f"{_SENTENCES[news[0].kind]}: {said}{more}.", content)


async def last_notice_us(world: ResponseContext, incident: Incident) -> int:
    """Return the time of the last notification of people about an incident, in microseconds since 1970.

    Only the latest `_RECENT_EVENTS` events are searched. Without a notification, return the time at which the incident
    was opened.
    """
    after = max(incident.last_seq - _RECENT_EVENTS, 0)
    events = await world.blocking(world.log.read_after, incident.incident_id, after)
    return max((event.at for event in events if event.kind in NOTIFIES), default=incident.opened_at)


async def unused_news(world: ResponseContext, state: IncidentState, incident: Incident) -> list[TimelineEvent]:
    """Return the timeline events about new outages if they require a new diagnosis of the incident now, else no events.

    The result has only events that are newer than the last handled event (`heard_seq` in `state`). It is empty in three
    other cases, too:
    - The target's measured values are out of date.
    - No confirmed anomaly is of a kind that opens incidents.
    - The incident was diagnosed again `MAX_REDIAGNOSES` times within the last hour.
    """
    seq, now_us = state.get("heard_seq", 0), world.clock.now_us()
    if incident.last_seq <= seq or not world.watch.findings.opens:
        return []
    if not may_diagnose_again(state, now_us):
        return []
    events = await world.blocking(world.log.read_after, incident.incident_id, seq)
    return [event for event in events if event.kind in {RECURRED, WORSENED}]


def may_diagnose_again(state: IncidentState, now_us: int) -> bool:
    """Return whether an incident was diagnosed again fewer than `MAX_REDIAGNOSES` times within the last hour."""
    recent = [at_us for at_us in state.get("relooked_at", []) if abs(now_us - at_us) < _REDIAGNOSES_US]
    return len(recent) < MAX_REDIAGNOSES


def state_after_news(
    state: IncidentState, news: Sequence[TimelineEvent], incident: Incident, now_us: int
) -> IncidentState:
    """Prepare a new diagnosis of an incident: return the keys of the workflow's state that change, with their values.

    If `news` has a recurrence of the problem after a recovery, most earlier actions may be tried again (`tried_of` has
    the exceptions). Plans that people rejected stay rejected.

    Args:
        state: the state of the incident workflow.
        news: the timeline events about new outages; empty if there is another reason to diagnose again.
        incident: the present state of the incident.
        now_us: the current time, in microseconds since 1970.
    """
    changed: IncidentState = {
        "heard_seq": incident.last_seq,
        "relooks": state.get("relooks", 0) + 1,
        "relooked_at": [*state.get("relooked_at", []), now_us][-MAX_REDIAGNOSES:],
        "stand_downs": 0,
        "stood_down_us": 0,
        "refused_cause": "",
        "waits": 0,
        "unanswered": 0,
        "suspected": "",
        "reason": "",
    }
    begins = [int(event.content.get("began_at", event.at)) for event in news if event.kind == RECURRED]
    # The earlier actions still count in the incident's budgets.
    if begins:
        changed |= {"episode_us": min(begins), "tried": []}
    return changed
