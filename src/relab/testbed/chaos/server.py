"""The HTTP routes of the chaos server: inject faults, list injections and end them (`/api/v1/break/…`)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request

from relab.testbed.chaos.manager import MAX_DURATION_S, ChaosManager
from relab.testbed.episodes import breaker, episode_end_route
from relab.testbed.problems import add_problems

_RESERVED_PARAMETERS = frozenset(("delay_s", "duration_s", "duration", "delay"))
_Seconds = Annotated[float | None, Query(gt=0, le=MAX_DURATION_S)]


def create_app(manager: ChaosManager) -> FastAPI:
    """Return the FastAPI app of the chaos server; its routes start, list and end the injections of `manager`."""
    app = FastAPI(title="Chaos", openapi_url="/openapi.json", docs_url=None, redoc_url=None)
    app.state.manager = manager
    add_problems(app)
    app.include_router(_alive)
    app.include_router(_router, dependencies=[Depends(breaker())])
    app.include_router(episode_end_route(manager.forget))
    return app


def _manager(request: Request) -> ChaosManager:
    found: ChaosManager = request.app.state.manager
    return found


With = Annotated[ChaosManager, Depends(_manager)]
_Id = Annotated[str, Path(max_length=100)]
_router = APIRouter(prefix="/api/v1")
_alive = APIRouter()


@_alive.get("/health")
def health() -> dict[str, bool]:
    """Return `{"ok": true}`, to show that the server runs."""
    return {"ok": True}


@_router.get("/faults")
def catalogue(manager: With) -> dict[str, Any]:
    """Return every fault and noise event (harmless event) with its parameters, symptoms and repairs.

    `tells_apart` describes what an investigation finds only with this fault. `impossible` is the reason why this
    machine cannot inject the fault or noise event, or null.
    """
    return {"faults": manager.catalogue()}


@_router.get("/break")
def injections(manager: With) -> dict[str, Any]:
    """Return all injections since the last reset of the testbed, newest first, ended ones included."""
    return {"injections": [item.to_json() for item in manager.list()]}


@_router.get("/break/{injection_id}")
def injection(manager: With, injection_id: _Id) -> dict[str, Any]:
    """Return the injection with this id: its fault, parameters, phase and times."""
    return manager.get(injection_id).to_json()


@_router.post("/break/{fault}", status_code=201)
def inject(
    request: Request,
    manager: With,
    fault: _Id,
    body: Annotated[dict[str, Any] | None, Body()] = None,
    duration: _Seconds = None,
    delay: Annotated[float, Query(ge=0, le=MAX_DURATION_S)] = 0.0,
) -> dict[str, Any]:
    """Inject a fault or noise event (harmless event) after `delay` seconds, and return the injection.

    The injection ends after `duration` seconds, or when it is stopped. The fault's parameters are fields of the query
    or of the body; the body takes precedence.
    """
    given = {key: value for key, value in request.query_params.items() if key not in _RESERVED_PARAMETERS} | (
        body or {}
    )
    made = manager.inject(fault, given, delay_s=delay, duration_s=duration)
    return {"id": made.injection_id, **made.to_json()}


@_router.post("/break/{fault}/{injection_id}/stop")
def stop(manager: With, fault: _Id, injection_id: _Id) -> dict[str, Any]:
    """End the injection with this id, if it is an injection of the fault in the path, and return it."""
    manager.check(fault, injection_id)
    return manager.stop(injection_id).to_json()


@_router.post("/break/{fault}/stop")
def stop_fault(manager: With, fault: _Id) -> dict[str, Any]:
    """End all active and waiting injections of a fault, and return them in the list `stopped`, which may be empty."""
    # A rollback in a file of chaostoolkit's format cannot name the id of an injection, so it needs this route.
    return {"stopped": [injection.to_json() for injection in manager.stop_fault(fault)]}
