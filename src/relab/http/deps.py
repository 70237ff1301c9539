"""FastAPI dependencies of routes: the services, and the tailers that send new events to open streams."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from relab.bootstrap import Services
from relab.incidents.service import TimelineEvent
from relab.progress.models import ProgressEvent
from relab.progress.tailer import ProgressTailer


def get_services(request: Request) -> Services:
    """Return the services of the app that received the request."""
    services: Services = request.app.state.services
    return services


def get_tailer(request: Request) -> ProgressTailer[ProgressEvent]:
    """Return the tailer of analyses: it sends their new progress events to the open streams of this process."""
    tailer: ProgressTailer[ProgressEvent] = request.app.state.tailer
    return tailer


def get_incident_tailer(request: Request) -> ProgressTailer[TimelineEvent]:
    """Return the tailer of incidents: it sends new events of their timelines to the open streams of this process."""
    tailer: ProgressTailer[TimelineEvent] = request.app.state.incident_tailer
    return tailer


ServicesDep = Annotated[Services, Depends(get_services)]
TailerDep = Annotated[ProgressTailer[ProgressEvent], Depends(get_tailer)]
IncidentTailerDep = Annotated[ProgressTailer[TimelineEvent], Depends(get_incident_tailer)]
