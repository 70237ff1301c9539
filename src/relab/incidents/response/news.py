"""News of an open incident: outages since the last notification of people, passed from the polling loop to the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relab.incidents.detection.outages import News, NewsKind
from relab.incidents.response.state import IncidentState
from relab.incidents.response.world import World
from relab.incidents.storage.models import Incident, IncidentStatus, NewEvent, TimelineEvent

NEWS: Final = "news"
"""The value that resumes a waiting question when there is news."""
MOST_RELOOKS: Final = 3
"""How often within an hour the graph looks again because of news; people are notified of all news."""
_RELOOKS_US: Final = 3_600 * 1_000_000
RECURRED: Final = "recurred"
WORSENED: Final = "worsened"
NOTIFIES: Final = frozenset(
    ("opened", "approval_asked", "act_finished", "escalated", "failed", "not_undone", RECURRED, WORSENED)
)
"""The kinds of events that are always sent to people."""
HANDED_OVER: Final = frozenset((IncidentStatus.ESCALATED, IncidentStatus.WAITING_APPROVAL))
_RECENT_EVENTS: Final = 300
_MOST_TOLD: Final = 3
_SAID: Final = {
    NewsKind.RECURRED: "It recovered and broke again",
    NewsKind.NEW: "Now also",
    NewsKind.WORSE: "Much worse",
}


def event_of_news(news: Sequence[News]) -> NewEvent:
    """Return the event that notifies people of news; its message names the first three signals."""
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
    """Return when people were last notified of an incident; its opening if the recent events contain no notification."""
    after = max(incident.last_seq - _RECENT_EVENTS, 0)
    events = await world.blocking(world.log.read_after, incident.incident_id, after)
    return max((event.at for event in events if event.kind in NOTIFIES), default=incident.opened_at)


async def unheeded(world: World, state: IncidentState, incident: Incident) -> list[TimelineEvent]:
    """Return the news since `heard_seq` for which the graph should look again now.

    Empty while the figures are stale, while no anomaly is present that opens incidents, or if the graph has already looked
    again `MOST_RELOOKS` times within the last hour.
    """
    seq, now_us = state.get("heard_seq", 0), world.clock.now_us()
    if incident.last_seq <= seq or not world.watch.findings.opens:
        return []
    if not may_look_again(state, now_us):
        return []
    events = await world.blocking(world.log.read_after, incident.incident_id, seq)
    return [event for event in events if event.kind in {RECURRED, WORSENED}]


def may_look_again(state: IncidentState, now_us: int) -> bool:
    """Return whether the graph has looked again less than `MOST_RELOOKS` times within the last hour."""
    recent = [at_us for at_us in state.get("relooked_at", []) if abs(now_us - at_us) < _RELOOKS_US]
    return len(recent) < MOST_RELOOKS


def looked_into(state: IncidentState, news: Sequence[TimelineEvent], incident: Incident, now_us: int) -> IncidentState:
    """Return the changes of the state when the graph looks again because of news.

    After a recovery it is another outage, for which earlier acts may be tried again. Plans that people rejected stay rejected,
    and all acts of the incident count in its budgets.
    """
    changed: IncidentState = {
        "heard_seq": incident.last_seq,
        "relooks": state.get("relooks", 0) + 1,
        "relooked_at": [*state.get("relooked_at", []), now_us][-MOST_RELOOKS:],
        "stand_downs": 0,
        "waits": 0,
        "unanswered": 0,
        "suspected": "",
        "reason": "",
    }
    begins = [int(event.content.get("began_at", event.at)) for event in news if event.kind == RECURRED]
    if begins:
        changed |= {"episode_us": min(begins), "tried": []}
    return changed
