"""Postmortems as they are asked for: composed anew of what is written down, so that none is ever out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relab.incidents.postmortem.composing import compose
from relab.incidents.postmortem.models import Case, Postmortem
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import TimelineEvent

if TYPE_CHECKING:
    from relab.incidents.postmortem.page import Page

MOST_EVENTS: Final = 50_000
"""Of one timeline; a night of trouble has some thousands."""


class Postmortems:
    """What there is to tell of incidents, also of those that are not over."""

    def __init__(self, log: IncidentLog) -> None:
        self._log = log

    def of(self, incident_id: str) -> Postmortem:
        """Return what there is to say about an incident.

        Raises:
            IncidentNotFoundError: there is none of that id.
        """
        return compose(case_of(self._log, incident_id))

    def markdown(self, incident_id: str) -> str:
        """Return the same as Markdown.

        Raises:
            IncidentNotFoundError: there is none of that id.
        """
        from relab.incidents.postmortem.markdown import to_markdown  # noqa: PLC0415 loads slowly, and few make any

        return to_markdown(self.of(incident_id))

    def page(self, incident_id: str) -> Page:
        """Return the same as a page that needs no network.

        Raises:
            IncidentNotFoundError: there is none of that id.
        """
        from relab.incidents.postmortem.page import render  # noqa: PLC0415 as above

        return render(self.of(incident_id))


def case_of(log: IncidentLog, incident_id: str) -> Case:
    """Return all that is written down of an incident.

    Raises:
        IncidentNotFoundError: there is none of that id.
    """
    # The incident first: what is told while it is read has a greater number than it knows of.
    incident = log.get(incident_id)
    events = events_of(log, incident_id)
    return Case(incident, events, log.acts.of_incident(incident_id), log.approvals.of_incident(incident_id))


def events_of(log: IncidentLog, incident_id: str) -> list[TimelineEvent]:
    """Return the timeline of an incident; none if there is no such incident."""
    events: list[TimelineEvent] = []
    while len(events) < MOST_EVENTS and (more := log.read_after(incident_id, events[-1].seq if events else 0)):
        events += more
    return events
