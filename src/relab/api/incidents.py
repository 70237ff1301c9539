"""Routes of the incident responder: show its status and incidents, store people's decisions, receive alerts."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from relab.access.models import Scope
from relab.core.errors import UnavailableError
from relab.core.json import canonical_json
from relab.http.access import OperatorDep, requires
from relab.http.body import JsonBody, require_json
from relab.http.deps import IncidentTailerDep, ObjectId, PageSize, ServicesDep
from relab.http.event_stream import AfterDep, stream, stream_responses
from relab.http.negotiation import preferred
from relab.http.problems import problem_responses, scoped_problems
from relab.http.routes import scoped
from relab.incidents.service import (
    MAX_CLOSING_NOTE,
    AlertNotification,
    AlertsAccepted,
    Decision,
    IncidentDetails,
    IncidentPage,
    IncidentStatus,
    Postmortem,
    ResponderStatus,
    SwitchState,
    Triggered,
)
from relab.knowledge.models import CAUSE_PATTERN

router = APIRouter(tags=["incidents"])

MAX_ALERT_BYTES = 4_194_304
"""The maximum size of a notification: enough for a thousand long alerts."""


ApprovalId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=200,
        pattern=r"^[^/\x00-\x1f]+$",
        description="The id of an approval request, or of an incident: its last request.",
    ),
]
Target = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TriggerRequest(_Body):
    """The body of a request to open an incident: a problem that a person reports, in the person's words."""

    detail: str = Field("", max_length=2_000, examples=["Customers say that checkout hangs."])


class ApprovalAnswer(_Body):
    """The body of a request that approves or rejects a plan, with an optional note."""

    approved: bool
    note: str = Field("", max_length=2_000)


class SwitchRequest(_Body):
    """A request to pause or resume responders: the target (by default all targets), and the reason."""

    target: Target | None = Field(None, description="The name of the target; null: all targets.")
    why: str = Field("", max_length=1_000)


class Dismissal(_Body):
    """The body of a request to dismiss an incident as a false positive: the reason, which may be empty."""

    why: str = Field("", max_length=1_000)


class Closing(_Body):
    """The body of a request to close an incident as repaired: what was done, and the cause if a person knows it."""

    # `IncidentService.close` rejects what does not match these patterns, in words; the second range is what Python also
    # strips.
    note: str = Field(
        max_length=MAX_CLOSING_NOTE,
        description="What was done.",
        json_schema_extra={"pattern": r"[^\s\x1c-\x1f]"},
    )
    cause: str | None = Field(
        None,
        description="The name of the cause, such as `cache_down`; it is not verified.",
        json_schema_extra={"anyOf": [{"type": "string", "pattern": CAUSE_PATTERN}, {"type": "null"}]},
    )
    if_status: Literal["open", "waiting_approval", "escalated"] | None = Field(
        None, description="Close the incident only if it has this status; null: any status."
    )


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
"""Formats by media type; the first one is the default."""
_POSTMORTEM: Final = TypeAdapter(Postmortem)
_GUARDED: Final = {
    # While the incident is open, each event changes the postmortem.
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}


class _AlertsBody(JsonBody):
    """A FastAPI dependency that parses the JSON of a notification of Alertmanager; the service checks its content."""

    async def __call__(self, request: Request) -> Any:
        """Return the body of the request as parsed JSON.

        Raises:
            UnavailableError: the body did not arrive in time.
        """
        require_json(request)
        try:
            return await super().__call__(request)
        except HTTPException as error:
            # Not 408 as on other routes, because Alertmanager never repeats a notification after a 4xx.
            raise UnavailableError(f"The notification from Alertmanager is incomplete: {error.detail}.") from error


def _body(model: type[BaseModel], example: Any, *, is_optional: bool = True) -> Any:
    return Depends(JsonBody(model, example=example, is_optional=is_optional))


Trigger = Annotated[TriggerRequest, _body(TriggerRequest, {"detail": "Customers say that checkout hangs."})]
Dismissed = Annotated[Dismissal, _body(Dismissal, {"why": "The new release is slower, and that is fine."})]
Closed = Annotated[
    Closing, _body(Closing, {"note": "I restarted the cache.", "cause": "cache_down"}, is_optional=False)
]
Approval = Annotated[ApprovalAnswer, _body(ApprovalAnswer, {"approved": True, "note": "Go ahead."}, is_optional=False)]
Switch = Annotated[SwitchRequest, _body(SwitchRequest, {"why": "The database is moved."})]
_ALERTS_BODY = _AlertsBody(
    AlertNotification,
    example=ALERTS_EXAMPLE,
    read=lambda parsed: parsed,
    max_bytes=MAX_ALERT_BYTES,
    # Alertmanager does not send a rejected notification again, so one label must not lose all alerts of its group.
    replaces_nul=True,
)
Alerts = Annotated[Any, Depends(_ALERTS_BODY)]


@router.get(
    "/agent/status",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 503),
    summary="Return the status of the responder",
)
def get_agent_status(services: ServicesDep) -> ResponderStatus:
    """Return the responder's status: target, open incident with causes and actions, autonomy, and pause state."""
    return services.incidents.status()


@router.post(
    "/agent/trigger",
    status_code=202,
    **scoped(Scope.OPERATE, 409, has_body=True),
    summary="Open an incident for a problem that a person reports",
)
def post_agent_trigger(trigger: Trigger, services: ServicesDep, caller: OperatorDep) -> Triggered:
    """Open an incident for a problem that a person reports; if an incident is open, add the report to it.

    The responder starts to work on a new incident at its next poll. 409 if no target is watched.
    """
    return services.incidents.trigger(trigger.detail, by=caller.name)


@router.get("/agent/incidents", **scoped(Scope.READ), summary="List incidents, newest first")
def list_agent_incidents(
    services: ServicesDep,
    status: Annotated[
        list[IncidentStatus] | None, Query(description="Only incidents with one of these statuses.")
    ] = None,
    target: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Only incidents of this target.")
    ] = None,
    cursor: Annotated[
        str | None,
        Query(max_length=200, description="`next_cursor` of the previous page."),
        WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,18}\.[0-9a-zA-Z-]{1,36}$"}),
    ] = None,
    limit: PageSize = 50,
) -> IncidentPage:
    """Return a page of incidents, newest first.

    Findings, symptoms and plans are left out; `GET /agent/incidents/{id}` returns them.
    """
    return services.incidents.log.list_incidents(target=target, statuses=status or (), cursor=cursor, limit=limit)


@router.get(
    "/agent/incidents/{incident_id}",
    **scoped(Scope.READ, 404),
    summary="Return an incident with its actions and approval requests",
)
def get_agent_incident(incident_id: ObjectId, services: ServicesDep) -> IncidentDetails:
    """Return the incident with its findings, diagnosis, plan, actions and approval requests."""
    return services.incidents.get(incident_id)


@router.post(
    "/agent/incidents/{incident_id}/dismiss",
    **scoped(Scope.OPERATE, 404, has_body=True),
    summary="Dismiss an incident as a false positive",
)
def post_agent_dismissal(
    incident_id: ObjectId, dismissal: Dismissed, services: ServicesDep, caller: OperatorDep
) -> IncidentDetails:
    """End an incident as a false positive.

    The anomalies of the incident open no new incident while they last, unless they become worse.
    """
    return services.incidents.dismiss(incident_id, by=caller.name, why=dismissal.why)


@router.post(
    "/agent/incidents/{incident_id}/close",
    **scoped(Scope.OPERATE, 404, 409, has_body=True),
    summary="Close an incident as repaired",
)
def post_agent_closing(
    incident_id: ObjectId, closing: Closed, services: ServicesDep, caller: OperatorDep
) -> IncidentDetails:
    """End an incident because a person has repaired the service; the responder stops, and verifies nothing.

    The same request again changes nothing. 409 if the incident ended in another way, or has another status than
    `if_status`. If the problem lasts for a minute or becomes worse, it opens a new incident.
    """
    status = None if closing.if_status is None else IncidentStatus(closing.if_status)
    return services.incidents.close(
        incident_id, by=caller.name, note=closing.note, cause=closing.cause, if_status=status
    )


@router.get(
    "/agent/incidents/{incident_id}/events",
    dependencies=[requires(Scope.READ)],
    response_class=StreamingResponse,
    responses=stream_responses(_STREAM_EXAMPLE),
    summary="Follow an incident as server-sent events",
)
async def stream_agent_incident(
    incident_id: ObjectId, services: ServicesDep, tailer: IncidentTailerDep, after: AfterDep
) -> Response:
    """Send the events of the incident's timeline so far (as CloudEvents 1.0), then each new event.

    The stream ends when the incident ends. Comments (`: ping`) keep idle connections open.
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
        **scoped_problems(404),
    },
    summary="Return the postmortem of an incident",
)
def get_agent_postmortem(
    incident_id: ObjectId,
    services: ServicesDep,
    given: Annotated[
        PostmortemFormat | None, Query(alias="format", description="Takes precedence over `Accept`.")
    ] = None,
    accept: Annotated[str | None, Header(max_length=2_000)] = None,
) -> Response:
    """Return the postmortem of an incident: timeline, evidence, actions with results, signals, and follow-ups.

    The format is Markdown unless `format` or `Accept` select HTML or JSON.
    """
    writer = services.incidents.postmortems
    chosen = given or _FORMATS[preferred(accept, list(_FORMATS))]
    if chosen == "json":
        return JSONResponse(_POSTMORTEM.dump_python(writer.of(incident_id), mode="json"), headers=_GUARDED)
    if chosen == "md":
        return Response(writer.markdown(incident_id), media_type="text/markdown", headers=_GUARDED)
    page = writer.page(incident_id)
    # In a sandbox the page has no origin, so a script in it cannot call this API as the reader.
    policy = f"{page.policy}; sandbox allow-scripts allow-downloads"
    return Response(page.html, media_type="text/html", headers={**_GUARDED, "Content-Security-Policy": policy})


@router.post(
    "/agent/approvals/{approval_id}",
    **scoped(Scope.OPERATE, 404, 409, has_body=True),
    summary="Approve or reject a plan",
)
def post_agent_approval(
    approval_id: ApprovalId, answer: Approval, services: ServicesDep, caller: OperatorDep
) -> Decision:
    """Approve or reject a plan.

    An approved plan may still be rejected. A rejected plan cannot be approved. The same decision again changes nothing.
    An approval gets 409 if the plan was rejected, if its approval request has expired, if the incident is over, or if
    the id is that of an incident with requests for different plans.
    """
    return services.incidents.decide(approval_id, approved=answer.approved, by=caller.name, note=answer.note)


@router.post("/agent/pause", **scoped(Scope.OPERATE, has_body=True), summary="Pause the responder")
def post_agent_pause(wanted: Switch, services: ServicesDep, caller: OperatorDep) -> SwitchState:
    """Pause all responders on this database, or those of one target: they execute no actions.

    Polls and diagnoses continue.
    """
    return services.incidents.pause(by=caller.name, why=wanted.why, target=wanted.target)


@router.post("/agent/resume", **scoped(Scope.OPERATE, has_body=True), summary="Resume the responder")
def post_agent_resume(wanted: Switch, services: ServicesDep, caller: OperatorDep) -> SwitchState:
    """Resume the responders of all targets, or of one.

    A target that was paused by name stays paused until it is resumed by name.
    """
    return services.incidents.resume(by=caller.name, why=wanted.why, target=wanted.target)


@router.post(
    "/alerts/alertmanager",
    dependencies=[requires(Scope.INGEST)],
    responses=problem_responses(401, 403, 409, 413, 415, 422, 503),
    summary="Receive a notification from Alertmanager",
)
def post_alertmanager(body: Alerts, services: ServicesDep) -> AlertsAccepted:
    """Accept a notification of Alertmanager, of Grafana, or of another sender with the same fields.

    `groupKey` and `alerts` are required, and each alert needs a `status`. A firing alert opens an incident of the
    watched target. If an incident is open, the alert is added to it. A repeated notification changes nothing, except
    that an alert counts as new if it still fires ten minutes after its incident ended without being dismissed. 503
    while no target is watched, 409 if several targets are watched.
    """
    return services.incidents.take_in_alerts(body)
