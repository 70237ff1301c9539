"""News of an open incident: outages that came after people were notified of it, from the loop that polls to the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.incidents.detection.outages import News, NewsKind
from relab.incidents.response.state import IncidentState
from relab.incidents.response.world import World
from relab.incidents.storage.models import Incident, IncidentStatus, NewEvent, TimelineEvent

NEWS: Final = "news"
"""What a question is answered with when something else goes wrong meanwhile."""
MOST_RELOOKS: Final = 3
"""How often within an hour news is looked into; people are notified of all of it."""
_RELOOKS_US: Final = 3_600 * 1_000_000
RECURRED: Final = "recurred"
WORSENED: Final = "worsened"
NOTIFIES: Final = frozenset(
    ("opened", "approval_asked", "act_finished", "escalated", "failed", "not_undone", RECURRED, WORSENED)
)
"""Kinds of events that are always sent to people."""
HANDED_OVER: Final = frozenset((IncidentStatus.ESCALATED, IncidentStatus.WAITING_APPROVAL))
_RECENT_EVENTS: Final = 300
_MOST_TOLD: Final = 3
_SAID: Final = {
    NewsKind.RECURRED: "It recovered and broke again",
    NewsKind.NEW: "Now also",
    NewsKind.WORSE: "Much worse",
}


def event_of_news(news: Sequence[News]) -> NewEvent:
    """Return the event by which people are notified of news; it names the first three signals."""
    said = "; ".join(item.anomaly.detail or item.anomaly.signal for item in news[:_MOST_TOLD])
    more = f"; and {len(news) - _MOST_TOLD} more" if len(news) > _MOST_TOLD else ""
    is_again = any(item.kind is NewsKind.RECURRED for item in news)
    content = {
        "signals": [item.anomaly.signal for item in news],
        "kinds": [item.kind.value for item in news],
        "began_at": min(item.began_us for item in news),
    }
    return NewEvent(RECURRED if is_again else WORSENED, f"{_SAID[news[0].kind]}: {said}{more}.", content)


async def last_notice_us(world: World, incident: Incident) -> int:
    """Return when people were notified last of an incident; its opening if that was the only time."""
    after = max(incident.last_seq - _RECENT_EVENTS, 0)
    events = await world.blocking(world.log.read_after, incident.incident_id, after)
    return max((event.at for event in events if event.kind in NOTIFIES), default=incident.opened_at)


async def unheeded(world: World, state: IncidentState, incident: Incident) -> list[TimelineEvent]:
    """Return the news since the incident was handed over that should be looked into now.

    Nothing while figures are old, while nothing that opens an incident is seen any more, or where as much was looked into within
    the last hour as may be.
    """
    seq, now_us = state.get("heard_seq", 0), world.clock.now_us()
    if incident.last_seq <= seq or not world.watch.findings.opens:
        return []
    recent = [at_us for at_us in state.get("relooked_at", []) if abs(now_us - at_us) < _RELOOKS_US]
    if len(recent) >= MOST_RELOOKS:
        return []
    events = await world.blocking(world.log.read_after, incident.incident_id, seq)
    return [event for event in events if event.kind in {RECURRED, WORSENED}]


def looked_into(state: IncidentState, news: Sequence[TimelineEvent], incident: Incident, now_us: int) -> IncidentState:
    """Return what changes of the state when news is looked into.

    After a recovery it is another outage: what was tried before may be right now. What people rejected stays rejected, and all
    acts of the incident count in its budgets.
    """
    changed: IncidentState = {
        "heard_seq": incident.last_seq,
        "relooks": state.get("relooks", 0) + 1,
        "relooked_at": [*state.get("relooked_at", []), now_us][-MOST_RELOOKS:],
        "stand_downs": 0,
        "waits": 0,
        "unanswered": 0,
        "reason": "",
    }
    begins = [int(event.content.get("began_at", event.at)) for event in news if event.kind == RECURRED]
    if begins:
        changed |= {"episode_us": min(begins), "tried": []}
    return changed
