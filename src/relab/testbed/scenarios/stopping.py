"""The route for rollbacks: a file in chaostoolkit's format cannot contain the id of an injection that it starts."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request

from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.chaos.models import AlreadyEndedError, Injection, Phase, UnknownFaultError

_OPEN: Final = frozenset((Phase.WAITING, Phase.ACTIVE))

stopping = APIRouter(prefix="/api/v1")


@stopping.post("/break/{fault}/stop")
def stop_fault(request: Request, fault: Annotated[str, Path(max_length=100)]) -> dict[str, Any]:
    """End whatever of a fault is at work or waits; nothing may be."""
    manager: ChaosManager = request.app.state.manager
    known = [item["name"] for item in manager.catalogue()]
    if fault not in known:
        raise UnknownFaultError(f"There is no fault {fault!r}.", remedy=f"One of: {', '.join(known)}.")
    stopped: list[Injection] = []
    for injection in manager.list():
        if injection.fault == fault and injection.phase in _OPEN:
            # The injection may end by itself between listing and stopping.
            with contextlib.suppress(AlreadyEndedError):
                stopped.append(manager.stop(injection.injection_id))
    return {"stopped": [injection.to_json() for injection in stopped]}
