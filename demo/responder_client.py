"""The responder's HTTP API, as much of it as the demo uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from demo.lab_client import LabError, check_status, checked, event_data

TIMEOUT_S = 30.0
"""Longer than the pause between two heartbeats of a stream."""
ENDS = frozenset({"closed", "escalated"})
"""Events after which the responder does nothing more for an incident."""


@dataclass(frozen=True)
class Told:
    """One event of an incident: its kind, a sentence, and what a program reads of it."""

    kind: str
    message: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Look:
    """How often the responder has looked at the shop, and the incident that is open, if one is."""

    polls: int
    incident_id: str | None


class _Event(BaseModel):
    """A CloudEvent as the responder streams it."""

    class Data(BaseModel):
        message: str
        content: dict[str, Any]

    type: str
    data: Data


class ResponderClient:
    """A client of one responder. Use as a context manager."""

    def __init__(self, base_url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=TIMEOUT_S, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def look(self) -> Look:
        """Return what it says of itself.

        Raises:
            LabError: it refused.
        """
        found = checked(self._http.get("/agent/status"))
        incident = found["incident"]
        return Look(int(found["polls"]), None if incident is None else str(incident["id"]))

    def follow(self, incident_id: str, within_s: float, clock: Callable[[], float] = time.monotonic) -> Iterator[Told]:
        """Yield the events of an incident as they happen, until the responder is done with it.

        Raises:
            LabError: it refused, or was not done in time.
        """
        deadline = clock() + within_s

        def in_time(lines: Iterable[str]) -> Iterator[str]:
            # Heartbeats are lines, too: one that says nothing of the incident is not waited for without an end.
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
                told = Told(event.type.rpartition(".")[2], event.data.message, event.data.content)
                yield told
                if told.kind in ENDS:
                    return
        raise LabError("The stream of the incident ended before the incident did.")

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return an incident as it is now.

        Raises:
            LabError: it refused.
        """
        return checked(self._http.get(f"/agent/incidents/{quote(incident_id, safe='')}"))

    def postmortem(self, incident_id: str, form: Literal["md", "html"]) -> str:
        """Return what there is to tell afterwards, as Markdown or as a page that needs no network.

        Raises:
            LabError: it refused.
        """
        url = f"/agent/incidents/{quote(incident_id, safe='')}/postmortem"
        response = self._http.get(url, params={"format": form})
        check_status(response)
        return response.text
