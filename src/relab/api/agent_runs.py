"""Routes of agent runs: post, list, show, timeline, delete."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, WithJsonSchema

from relab.access.models import Scope
from relab.api.examples import AGENT_RUN_EXAMPLE
from relab.core.clock import TIME_PATTERN, parse_time
from relab.core.ids import ExternalId
from relab.http.access import requires
from relab.http.body import declared_length, read_body, require_json
from relab.http.deps import PageSize, ServicesDep
from relab.http.openapi import NO_NUL, BodyReadByRoute
from relab.http.problems import scoped_problems
from relab.http.routes import scoped
from relab.telemetry.models import (
    AgentRun,
    IngestReceipt,
    RunFilter,
    RunHeader,
    RunPage,
    TimelinePage,
)

router = APIRouter(tags=["agent runs"])

RunId = Annotated[ExternalId, Path(description="The run's id, as it was posted.", examples=["run-001-sufficient"])]
Cursor = Annotated[str | None, Query(max_length=1_000, description="`next_cursor` of the previous page.")]


def _reject_nul(text: str | None) -> str | None:
    if text is not None and "\x00" in text:
        raise ValueError("must not contain NUL")
    return text


def _read_time(text: str | None) -> str | None:
    if text is not None:
        parse_time(text)
    return text


Filter = Annotated[
    str | None,
    Query(max_length=1_000),
    AfterValidator(_reject_nul),
    WithJsonSchema({"type": "string", "pattern": NO_NUL, "maxLength": 1_000}),
]
TimeText = Annotated[
    str | None,
    Query(max_length=40, description="An RFC 3339 time; `after` is inclusive, `before` is not."),
    AfterValidator(_read_time),
    WithJsonSchema({"type": "string", "pattern": TIME_PATTERN, "maxLength": 40}),
]

_BODY = BodyReadByRoute(AgentRun, example=AGENT_RUN_EXAMPLE)


_PARAMETERS = {
    {
        "agent_name": "agent",
        "agent_version": "version",
        "started_after_us": "started_after",
        "started_before_us": "started_before",
    }.get(name, name): name
    for name in RunFilter.model_fields
}
"""`{query parameter: field of `RunFilter`}`."""


def run_filter(**query: Any) -> RunFilter:
    """Build a `RunFilter` from the query parameters of a request, `{name: value}`; times are parsed.

    `all_traces` is true unless the request sets it: in the API, every trace is a run, even without agent activity.
    """
    fields = {"all_traces": True} | {_PARAMETERS[name]: value for name, value in query.items() if value is not None}
    return RunFilter(**{name: parse_time(value) if name.endswith("_us") else value for name, value in fields.items()})


def _query_type(field: str) -> object:
    if field.endswith("_us"):
        return TimeText
    annotation = RunFilter.model_fields[field].annotation
    return Filter if annotation == str | None else annotation


# FastAPI reads the query parameters from the signature: one for each field of the filter.
run_filter.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_query_type(field))
        for name, field in _PARAMETERS.items()
    ]
)


@router.post(
    "/agent-runs",
    status_code=201,
    dependencies=[requires(Scope.INGEST), Depends(_BODY)],
    responses={
        200: {"model": IngestReceipt, "description": "The run existed; it was replaced, or had the same content"},
        **scoped_problems(409, 429, has_body=True),
    },
    summary="Ingest an agent run",
)
async def post_agent_run(request: Request, response: Response, services: ServicesDep) -> IngestReceipt:
    """Store an agent run with all its steps. A stored run with the same `run_id` is replaced.

    When the response is sent, the run is stored durably. Unknown fields are kept. The body may be compressed.
    If the installation sets an ingest secret, a request without a token must send it as `X-Ingest-Secret`.
    """
    require_json(request)
    max_bytes = int(services.settings.http.max_body_mb * 1_048_576)
    async with request.app.state.ingest_gate.reserve(declared_length(request)) as reservation:
        body = await read_body(request, reservation)
        receipt = await asyncio.wrap_future(services.telemetry.submit_run(functools.partial(body.unpack, max_bytes)))
    request.app.state.metrics.ingested.labels("created" if receipt.created else "updated").inc()
    response.status_code = 201 if receipt.created else 200
    return receipt


@router.get("/agent-runs", **scoped(Scope.READ), summary="List agent runs, newest first")
def list_agent_runs(
    services: ServicesDep,
    wanted: Annotated[RunFilter, Depends(run_filter)],
    cursor: Cursor = None,
    limit: PageSize = 50,
) -> RunPage:
    """Return a page of the runs that match all given filters; the run that started last comes first.

    The filter `text` is a part of an id, a name or an error message of the run or its items; case is ignored.
    """
    return services.telemetry.list_runs(wanted, cursor=cursor, limit=limit)


@router.get("/agent-runs/{run_id}", **scoped(Scope.READ, 404), summary="Show an agent run with its counts")
def get_agent_run(run_id: RunId, services: ServicesDep) -> RunHeader:
    """Return the run without its timeline; unknown fields are returned as they were posted."""
    return services.telemetry.get(run_id)


@router.get(
    "/agent-runs/{run_id}/timeline",
    dependencies=[requires(Scope.READ)],
    response_model=TimelinePage,
    responses=scoped_problems(404),
    summary="Show the timeline of a run: steps, tool calls and guardrail events by time",
)
def get_timeline(
    run_id: RunId,
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """Return a page of a run's timeline, oldest item first; the order is the same at each request."""
    page = services.telemetry.timeline_json(run_id, cursor=cursor, limit=limit)
    return Response(page, media_type="application/json")


@router.delete(
    "/agent-runs/{run_id}",
    status_code=204,
    **scoped(Scope.OPERATE, 404),
    summary="Delete a run, its timeline and its analyses",
)
def delete_agent_run(run_id: RunId, services: ServicesDep) -> None:
    """Delete a run at once; a job deletes its analyses later."""
    services.telemetry.delete(run_id)
