"""FastAPI dependencies and parameter types of routes.

The dependencies return the app's services, and its tailers, which send new events to open event streams. They are async
because FastAPI would run other functions in threads, and all threads may wait for the database.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator

from relab.bootstrap import Services
from relab.incidents.service import TimelineEvent
from relab.progress.models import ProgressEvent
from relab.progress.tailer import ProgressTailer


async def get_services(request: Request) -> Services:
    """Return the services of the app that received the request."""
    services: Services = request.app.state.services
    return services


async def get_tailer(request: Request) -> ProgressTailer[ProgressEvent]:
    """Return the app's tailer for analyses and rollouts, which sends new progress events to open event streams."""
    tailer: ProgressTailer[ProgressEvent] = request.app.state.tailer
    return tailer


async def get_incident_tailer(request: Request) -> ProgressTailer[TimelineEvent]:
    """Return the app's tailer for incidents, which sends new timeline events to open event streams."""
    tailer: ProgressTailer[TimelineEvent] = request.app.state.incident_tailer
    return tailer


ServicesDep = Annotated[Services, Depends(get_services)]
TailerDep = Annotated[ProgressTailer[ProgressEvent], Depends(get_tailer)]
IncidentTailerDep = Annotated[ProgressTailer[TimelineEvent], Depends(get_incident_tailer)]

ObjectId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f]+$")]
"""The id of a stored object, in the path of a route."""
PageSize = Annotated[int, Query(ge=1, le=500)]
"""The largest number of items on a page of a list."""

_OWN_ID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def _check_own_id(value: str) -> str:
    if re.fullmatch(_OWN_ID, value) is None:
        raise ValueError("is not a `next_before` of this list")
    return value


BeforeId = Annotated[
    Annotated[str, AfterValidator(_check_own_id)] | None,
    Query(description="`next_before` of the previous page.", json_schema_extra={"pattern": _OWN_ID}),
]
"""The cursor of a list that is sorted by ids which relab has made: the id of the last item of the previous page."""
