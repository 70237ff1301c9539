"""The action server's HTTP interface. Every error is a problem document (RFC 9457) that says what to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from relab.testbed.actions.health import TargetHealth
from relab.testbed.actions.looks import MAX_LINES, Looks
from relab.testbed.actions.models import StalePreconditionError, TooManyActionsError
from relab.testbed.actions.service import ActionResult, ActionService
from relab.testbed.actions.tokens import ANYONE, ActionCaller, ActionScope, Tokens
from relab.testbed.callers import refuse_pages
from relab.testbed.episodes import episode_end_route
from relab.testbed.problems import add_problems

MAX_RECORDS = 500
_RESERVED = frozenset(("dry_run", "if_state"))


class Switch(BaseModel):
    """The state of the kill switch: while `stopped` is true, all actions that change anything are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True)

    stopped: bool


@dataclass(frozen=True)
class ActionServices:
    """The services that the routes use.

    Attributes:
        actions: performs the actions.
        tokens: authenticates callers and holds their scopes.
        health: probes the target as its users do.
        looks: reads the state of the components, the settings history and the logs.
        is_open: whether programs on this machine may send requests without a token.
    """

    actions: ActionService
    tokens: Tokens
    health: TargetHealth
    looks: Looks
    is_open: bool = False


def create_app(services: ActionServices) -> FastAPI:
    """Return the FastAPI app of the action server, which executes repairs; its routes use `services`."""
    app = FastAPI(title="Actions", openapi_url="/openapi.json", docs_url=None, redoc_url=None)
    app.state.services = services
    add_problems(app, ((StalePreconditionError, 412), (TooManyActionsError, 429)))
    app.include_router(_router)
    app.include_router(episode_end_route(services.actions.forget))
    return app


def _services(request: Request) -> ActionServices:
    found: ActionServices = request.app.state.services
    return found


def _caller(request: Request) -> ActionCaller:
    services, given = _services(request), request.headers.getlist("authorization")
    if services.is_open and not given:
        refuse_pages(
            request.headers,
            remedy="Call it as localhost or 127.0.0.1 from a program, or make a token with `lab testbed token`.",
        )
        return ANYONE
    # If there are two headers, a proxy may have checked the one that is not used here, so accept neither.
    return services.tokens.caller(given[0] if len(given) == 1 else None)


With = Annotated[ActionServices, Depends(_services)]
Asking = Annotated[ActionCaller, Depends(_caller)]
_router = APIRouter()


@_router.get("/health")
def alive(services: With) -> dict[str, Any]:
    """Return whether the server runs (`ok`), and whether its kill switch is on (`stopped`)."""
    return {"ok": True, "stopped": services.actions.guard.is_stopped}


@_router.get("/actions")
def catalogue(services: With, asking: Asking) -> dict[str, Any]:
    """Return `actions`: each action with its parameters, preconditions, blast radius, inverse and effect."""
    asking.require(ActionScope.READ)
    return {"actions": services.actions.catalogue()}


@_router.get("/action/verify-target-health")
def verify(services: With, asking: Asking) -> dict[str, Any]:
    """Return whether the target serves its users well (`is_healthy`), why not (`problems`), and its main metrics."""
    asking.require(ActionScope.READ)
    return services.health.verify()


@_router.post("/action/{name}")
def perform(
    request: Request,
    services: With,
    asking: Asking,
    name: Annotated[str, Path(max_length=100)],
    body: Annotated[dict[str, Any] | None, Body()] = None,
    dry_run: bool = False,
    if_state: Annotated[str | None, Query(max_length=100)] = None,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Perform an action; its parameters are sent in the query, in the body, or both.

    - `dry_run`: the server changes nothing and returns the state that the action would change.
    - `if_state`: the digest of the state from a dry run; if the state has changed since, the answer is 412.
    - `Idempotency-Key`: a repeated request changes nothing and gets the record of the first request.

    If the action fails, the answer is 502 with the record of the action.
    """
    asking.require_class(services.actions.action(name).action_class)
    given = {key: value for key, value in request.query_params.items() if key not in _RESERVED} | (body or {})
    answer = services.actions.perform(
        name, given, actor=asking.name, key=idempotency_key, dry_run=dry_run, if_state=if_state
    )
    return _answer(answer)


@_router.get("/records")
def records(services: With, asking: Asking, limit: Annotated[int, Query(ge=1, le=MAX_RECORDS)] = 50) -> dict[str, Any]:
    """Return the records of the latest actions, newest first, at most `limit`."""
    asking.require(ActionScope.READ)
    return {"records": [record.to_json() for record in services.actions.audit.newest(limit)]}


@_router.get("/records/{record_id}")
def record(services: With, asking: Asking, record_id: str) -> dict[str, Any]:
    """Return the record of one action."""
    asking.require(ActionScope.READ)
    return services.actions.audit.get(record_id).to_json()


@_router.post("/records/{record_id}/undo")
def undo(services: With, asking: Asking, record_id: str) -> Response:
    """Undo an action: restore the state from before the action."""
    # Check this first: only callers that may read or act may learn which records exist.
    asking.require_any_act()
    done = services.actions.audit.get(record_id)
    asking.require_class(services.actions.action(done.action).action_class)
    return _answer(services.actions.undo(record_id, actor=asking.name))


@_router.get("/components")
def components(services: With, asking: Asking) -> dict[str, Any]:
    """Return the status and resource use of all components, the load of the machine, and the target's disk space.

    `components` has the status of each component and the figures of its process. `kernel` has figures of the machine:
    OOM kills, CPUs, load average and runnable tasks. `volume` has the size and the free space of the target's volume.
    """
    asking.require(ActionScope.READ)
    return services.looks.components()


@_router.get("/settings/history")
def settings_history(services: With, asking: Asking) -> dict[str, Any]:
    """Return `versions`: all changes of the target's settings, oldest first, with authors, times and masked secrets."""
    asking.require(ActionScope.READ)
    return services.looks.history()


@_router.get("/logs")
def logs(
    services: With,
    asking: Asking,
    component: Annotated[str, Query(max_length=100)],
    lines: Annotated[int, Query(ge=1, le=MAX_LINES)] = 200,
) -> dict[str, Any]:
    """Return the last `lines` lines of the log of a component, oldest first.

    `component` is a component's name as `GET /components` returns it. The name `target` stands for the structured log
    of the target, merged over all its workers.
    """
    asking.require(ActionScope.READ)
    return services.looks.logs(component, lines)


@_router.get("/kill-switch")
def switch_state(services: With, asking: Asking) -> Switch:
    """Return whether the kill switch is on; while it is on, the server rejects all actions that change anything."""
    asking.require(ActionScope.READ)
    return Switch(stopped=services.actions.guard.is_stopped)


@_router.put("/kill-switch")
def switch_to(services: With, asking: Asking, switch: Switch) -> Switch:
    """Turn the kill switch on or off; while it is on, the server rejects all actions that change anything.

    A client with any scope for performing actions may turn it on. Only a client with the scope `admin` may turn it off.
    """
    if switch.stopped:
        asking.require_any_act()
    else:
        asking.require(ActionScope.ADMIN)
    services.actions.switch(stopped=switch.stopped, by=asking.name)
    return switch


def _answer(answer: ActionResult) -> Response:
    found = answer.to_json()
    # A failed action is a valid answer of this server, with its record, but not a success.
    return JSONResponse(found, status_code=200 if found["ok"] else 502)
