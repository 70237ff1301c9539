"""Compose the postmortem of an incident on demand from its stored data, so that it is never out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relab.incidents.postmortem.models import IncidentRecord, Postmortem
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import TimelineEvent

if TYPE_CHECKING:
    from relab.charts.pages import ChartPage

MAX_EVENTS: Final = 50_000
"""The maximum number of events read from one timeline; a night of trouble has some thousands."""


class PostmortemService:
    """Composes postmortems of incidents, whether they are over or not."""

    def __init__(self, log: IncidentLog) -> None:
        self._log = log

    def of(self, incident_id: str) -> Postmortem:
        """Return the postmortem of an incident.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        from relab.incidents.postmortem.composition import compose  # noqa: PLC0415 as below

        return compose(incident_record(self._log, incident_id))

    def markdown(self, incident_id: str) -> str:
        """Return the postmortem of an incident as Markdown.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        from relab.incidents.postmortem.markdown import to_markdown  # noqa: PLC0415 loads slowly, and few make any

        return to_markdown(self.of(incident_id))

    def page(self, incident_id: str) -> ChartPage:
        """Return the postmortem of an incident as an HTML page that needs no network.

        Raises:
            IncidentNotFoundError: no incident has this id.
        """
        from relab.incidents.postmortem.page import render  # noqa: PLC0415 as above

        return render(self.of(incident_id))


def incident_record(log: IncidentLog, incident_id: str) -> IncidentRecord:
    """Return the stored data of an incident; of its events and actions, only the first (see `events_of`, `ActionLog`).

    Raises:
        IncidentNotFoundError: no incident has this id.
    """
    # Read the incident first: an event appended meanwhile then has a number above its `last_seq`.
    incident = log.get(incident_id)
    events = events_of(log, incident_id)
    return IncidentRecord(
        incident, events, log.actions.of_incident(incident_id), log.approvals.of_incident(incident_id)
    )


def events_of(log: IncidentLog, incident_id: str) -> list[TimelineEvent]:
    """Return the timeline of an incident; empty if the incident does not exist.

    The function reads pages of events until it has at least `MAX_EVENTS` events, so it may return a few more.
    """
    events: list[TimelineEvent] = []
    while len(events) < MAX_EVENTS and (more := log.read_after(incident_id, events[-1].seq if events else 0)):
        events += more
    return events
