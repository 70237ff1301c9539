"""What routes ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from relab.bootstrap import Services
from relab.progress.tailer import ProgressTailer


def get_services(request: Request) -> Services:
    """Return the services of the app."""
    services: Services = request.app.state.services
    return services


def get_tailer(request: Request) -> ProgressTailer:
    """Return what follows progress in this process."""
    tailer: ProgressTailer = request.app.state.tailer
    return tailer


ServicesDep = Annotated[Services, Depends(get_services)]
TailerDep = Annotated[ProgressTailer, Depends(get_tailer)]
