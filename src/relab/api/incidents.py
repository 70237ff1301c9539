"""Routes of the responder: what it does, what people tell it, and alerts from outside."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from relab.access.models import Caller, Scope
from relab.core.errors import UnavailableError
from relab.core.json import canonical_json
from relab.http.access import requires
from relab.http.body import JsonBody, require_json
from relab.http.deps import IncidentTailerDep, ServicesDep
from relab.http.event_stream import AfterDep, stream, stream_responses
from relab.http.negotiation import preferred
from relab.http.problems import problem_responses
from relab.incidents.service import (
    AlertNotification,
    AlertsTaken,
    Decision,
    IncidentDetails,
    IncidentPage,
    IncidentStatus,
    Postmortem,
    ResponderStatus,
    SwitchState,
    Triggered,
)

router = APIRouter(tags=["incidents"])

MOST_ALERT_BYTES = 4_194_304
"""Of a notification: a thousand alerts with much to say."""

# One check for both places of a route, so that it is made once.
_OPERATES = requires(Scope.OPERATE)
_Author = Annotated[Caller, _OPERATES]

IncidentId = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f]+$")]
ApprovalId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=200,
        pattern=r"^[^/\x00-\x1f]+$",
        description="Of the question, or of an incident: of its last one.",
    ),
]
Target = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TriggerRequest(_Body):
    """What somebody has noticed."""

    detail: str = Field("", max_length=2_000, examples=["Customers say that checkout hangs."])


class ApprovalAnswer(_Body):
    """Whether a plan may be executed."""

    approved: bool
    note: str = Field("", max_length=2_000)


class SwitchRequest(_Body):
    """What is paused or resumed, and why."""

    target: Target | None = Field(None, description="Only this one; null: everything.")
    why: str = Field("", max_length=1_000)


class Dismissal(_Body):
    """Why an incident is none."""

    why: str = Field("", max_length=1_000)


ALERTS_EXAMPLE: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}:{alertname="CheckoutSlow"}',
    "status": "firing",
    "receiver": "relab",
    "groupLabels": {"alertname": "CheckoutSlow"},
    "commonLabels": {"alertname": "CheckoutSlow", "severity": "critical"},
    "commonAnnotations": {"summary": "Checkout takes longer than 2 s."},
    "externalURL": "http://127.0.0.1:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "CheckoutSlow", "severity": "critical"},
            "annotations": {"summary": "Checkout takes longer than 2 s."},
            "startsAt": "2026-11-21T03:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "c7a4f2d1e0b39586",
        }
    ],
}

_STREAM_EXAMPLE = (
    'id: 1\ndata: {"specversion":"1.0","id":"i:1","source":"/agent/incidents","type":"relab.incident.opened",'
    '"time":"2026-11-21T03:00:00Z","subject":"i","datacontenttype":"application/json","data":{}}\n\n'
)

PostmortemFormat = Literal["md", "html", "json"]
_FORMATS: Final[dict[str, PostmortemFormat]] = {"text/markdown": "md", "text/html": "html", "application/json": "json"}
"""By media type; the first one is given to whoever asks for none of them."""
_POSTMORTEM: Final = TypeAdapter(Postmortem)
_GUARDED: Final = {
    # As long as the incident is not over there is more to tell with each event.
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}


class _AlertsBody(JsonBody):
    """A notification of Alertmanager as parsed JSON; the service checks it."""

    async def __call__(self, request: Request) -> Any:
        """Return the body; see `JsonBody`.

        Raises:
            UnavailableError: the body did not arrive in time. Elsewhere that is 408, but Alertmanager never repeats a
                notification that is answered with 4xx.
        """
        require_json(request)
        try:
            return await super().__call__(request)
        except HTTPException as error:
            raise UnavailableError(f"A notification of Alertmanager was cut off: {error.detail}.") from error


def _body(model: type[BaseModel], example: Any, *, is_optional: bool = True) -> Any:
    return Depends(JsonBody(model, example=example, is_optional=is_optional))


Trigger = Annotated[TriggerRequest, _body(TriggerRequest, {"detail": "Customers say that checkout hangs."})]
Dismissed = Annotated[Dismissal, _body(Dismissal, {"why": "The new release is slower, and that is fine."})]
Approval = Annotated[ApprovalAnswer, _body(ApprovalAnswer, {"approved": True, "note": "Go ahead."}, is_optional=False)]
Switch = Annotated[SwitchRequest, _body(SwitchRequest, {"why": "The database is moved."})]
_ALERTS_BODY = _AlertsBody(
    AlertNotification, example=ALERTS_EXAMPLE, read=lambda parsed: parsed, max_bytes=MOST_ALERT_BYTES
)
Alerts = Annotated[Any, Depends(_ALERTS_BODY)]


@router.get(
    "/agent/status",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 503),
    summary="Say what the responder is doing",
)
def get_agent_status(services: ServicesDep) -> ResponderStatus:
    """The target, the open incident with what is thought of its cause, and whether anything may be done."""
    return services.incidents.status()


@router.post(
    "/agent/trigger",
    status_code=202,
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 408, 409, 413, 415, 422, 503),
    summary="Open an incident, because somebody says that something is wrong",
)
def post_agent_trigger(trigger: Trigger, services: ServicesDep, caller: _Author) -> Triggered:
    """The responder takes it up with its next poll. One that is open is joined; 409 if nothing is watched."""
    return services.incidents.trigger(trigger.detail, by=caller.name)


@router.get(
    "/agent/incidents",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 422, 503),
    summary="List incidents, newest first",
)
def list_agent_incidents(
    services: ServicesDep,
    status: Annotated[list[IncidentStatus] | None, Query(description="Only of these.")] = None,
    target: Annotated[str | None, Query(min_length=1, max_length=200, description="Only of this one.")] = None,
    cursor: Annotated[
        str | None,
        Query(max_length=200, description="`next_cursor` of the page before."),
        WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,18}\.[0-9a-zA-Z-]{1,36}$"}),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> IncidentPage:
    """Without what is heavy: findings, symptoms and plans are in each incident itself."""
    return services.incidents.list_incidents(target=target, statuses=status or (), cursor=cursor, limit=limit)


@router.get(
    "/agent/incidents/{incident_id}",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Show an incident with its acts, and the questions to people",
)
def get_agent_incident(incident_id: IncidentId, services: ServicesDep) -> IncidentDetails:
    """What was found, what is thought of it, what is to be done and what was."""
    return services.incidents.get(incident_id)


@router.post(
    "/agent/incidents/{incident_id}/dismiss",
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 404, 408, 413, 415, 422, 503),
    summary="Say that an incident is none",
)
def post_agent_dismissal(
    incident_id: IncidentId, dismissal: Dismissed, services: ServicesDep, caller: _Author
) -> IncidentDetails:
    """It ends, and as it is now it may stay: what was found opens no other one until it has gone or becomes worse."""
    return services.incidents.dismiss(incident_id, by=caller.name, why=dismissal.why)


@router.get(
    "/agent/incidents/{incident_id}/events",
    dependencies=[requires(Scope.READ)],
    response_class=StreamingResponse,
    responses=stream_responses(_STREAM_EXAMPLE),
    summary="Follow an incident as server-sent events",
)
async def stream_agent_incident(
    incident_id: IncidentId, services: ServicesDep, tailer: IncidentTailerDep, after: AfterDep
) -> Response:
    """Its timeline so far as CloudEvents 1.0, then each new event; the stream ends when the incident does.

    Comments (`: ping`) keep idle connections open.
    """
    await run_in_threadpool(services.incidents.log.get, incident_id)
    return stream(tailer.follow(incident_id, after), lambda event: canonical_json(event.to_cloudevent()))


@router.get(
    "/agent/incidents/{incident_id}/postmortem",
    dependencies=[requires(Scope.READ)],
    response_model=Postmortem,
    responses={
        200: {
            "content": {
                "text/markdown": {"schema": {"type": "string"}, "example": "# Postmortem: errors.pct is 38\n"},
                "text/html": {"schema": {"type": "string"}},
            }
        },
        **problem_responses(401, 403, 404, 422, 503),
    },
    summary="Tell an incident afterwards, or as far as it is",
)
def get_agent_postmortem(
    incident_id: IncidentId,
    services: ServicesDep,
    given: Annotated[PostmortemFormat | None, Query(alias="format", description="Beats `Accept`.")] = None,
    accept: Annotated[str | None, Header(max_length=2_000)] = None,
) -> Response:
    """What happened when, the evidence, what was tried and what worked, the signals, and what follows from it.

    Markdown unless `format` or `Accept` ask for HTML or JSON. The page needs no network and may run its own scripts alone.
    """
    told = services.incidents.postmortems
    chosen = given or _FORMATS[preferred(accept, list(_FORMATS))]
    if chosen == "json":
        return JSONResponse(_POSTMORTEM.dump_python(told.of(incident_id), mode="json"), headers=_GUARDED)
    if chosen == "md":
        return Response(told.markdown(incident_id), media_type="text/markdown", headers=_GUARDED)
    page = told.page(incident_id)
    # In a sandbox it is of no origin: whatever ran there could ask this API for nothing in the reader's name.
    policy = f"{page.policy}; sandbox allow-scripts allow-downloads"
    return Response(page.html, media_type="text/html", headers={**_GUARDED, "Content-Security-Policy": policy})


@router.post(
    "/agent/approvals/{approval_id}",
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 404, 408, 409, 413, 415, 422, 503),
    summary="Approve a plan, or reject it",
)
def post_agent_approval(approval_id: ApprovalId, answer: Approval, services: ServicesDep, caller: _Author) -> Decision:
    """The first answer holds, and the same one again changes nothing; what was approved may still be rejected.

    409 if it is too late, or if somebody has rejected it.
    """
    return services.incidents.decide(approval_id, approved=answer.approved, by=caller.name, note=answer.note)


@router.post(
    "/agent/pause",
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 408, 413, 415, 422, 503),
    summary="Have the responder do nothing any more",
)
def post_agent_pause(wanted: Switch, services: ServicesDep, caller: _Author) -> SwitchState:
    """The kill switch of all responders on this database, or of one target. Looking goes on."""
    return services.incidents.pause(by=caller.name, why=wanted.why, target=wanted.target)


@router.post(
    "/agent/resume",
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 408, 413, 415, 422, 503),
    summary="Take a pause back",
)
def post_agent_resume(wanted: Switch, services: ServicesDep, caller: _Author) -> SwitchState:
    """A target that was paused by itself stays so until it is named here."""
    return services.incidents.resume(by=caller.name, why=wanted.why, target=wanted.target)


@router.post(
    "/alerts/alertmanager",
    dependencies=[requires(Scope.INGEST)],
    responses=problem_responses(401, 403, 409, 413, 415, 422, 503),
    summary="Take in a notification of Prometheus' Alertmanager",
)
def post_alertmanager(body: Alerts, services: ServicesDep) -> AlertsTaken:
    """Webhook version 4. The same notification again changes nothing, so it may be sent until it is taken.

    Firing alerts open an incident of the target, or join the open one; 503 while no target is watched, 409 if several are.
    """
    return services.incidents.take_in_alerts(body)
