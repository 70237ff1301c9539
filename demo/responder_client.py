"""A client for the part of the responder's HTTP API that the demo uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel

from demo.lab_client import HttpClient, LabError, check_status, checked, event_data

ENDS = frozenset({"closed", "escalated"})
"""Kinds of events after which the responder has finished an incident."""


@dataclass(frozen=True)
class Told:
    """One event of an incident's timeline.

    Attributes:
        kind: the kind of the event.
        message: a sentence for people.
        content: data for programs.
    """

    kind: str
    message: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Look:
    """The responder's status: its number of polls, and the id of the open incident, or None."""

    polls: int
    incident_id: str | None


class _Event(BaseModel):
    """A CloudEvent as the responder streams it."""

    class Data(BaseModel):
        message: str
        content: dict[str, Any]

    type: str
    data: Data


class ResponderClient(HttpClient):
    """A client of one responder. Use it as a context manager, which closes its connections."""

    def look(self) -> Look:
        """Return the responder's status.

        Raises:
            LabError: the responder rejected the request.
        """
        found = checked(self._http.get("/agent/status"))
        incident = found["incident"]
        return Look(int(found["polls"]), None if incident is None else str(incident["id"]))

    def follow(self, incident_id: str, within_s: float, clock: Callable[[], float] = time.monotonic) -> Iterator[Told]:
        """Yield the events of an incident as they happen, until the responder has finished it.

        Raises:
            LabError: the responder rejected the request, or did not finish within `within_s` seconds.
        """
        deadline = clock() + within_s

        def in_time(lines: Iterable[str]) -> Iterator[str]:
            # Heartbeats are lines too, so the deadline is checked even if no event of the incident arrives.
            for line in lines:
                if clock() > deadline:
                    raise LabError(f"The responder was not done with the incident within {within_s:.0f} s.")
                yield line

        url = f"/agent/incidents/{quote(incident_id, safe='')}/events"
        with self._http.stream("GET", url, headers={"Accept": "text/event-stream"}) as response:
            if response.is_error:
                response.read()
            check_status(response)
            for data in event_data(in_time(response.iter_lines())):
                event = _Event.model_validate_json(data)
                shown = Told(event.type.rpartition(".")[2], event.data.message, event.data.content)
                yield shown
                if shown.kind in ENDS:
                    return
        raise LabError("The stream of the incident ended before the incident did.")

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return the current state of an incident, the JSON object of `GET /agent/incidents/{id}`.

        Raises:
            LabError: the responder rejected the request.
        """
        return checked(self._http.get(f"/agent/incidents/{quote(incident_id, safe='')}"))

    def postmortem(self, incident_id: str, form: Literal["md", "html"]) -> str:
        """Return the postmortem of an incident, as Markdown or as an HTML page that needs no network.

        Raises:
            LabError: the responder rejected the request.
        """
        url = f"/agent/incidents/{quote(incident_id, safe='')}/postmortem"
        response = self._http.get(url, params={"format": form})
        check_status(response)
        return response.text
