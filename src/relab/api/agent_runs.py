"""Routes of agent runs: post, list, show, timeline, delete."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, WithJsonSchema

from relab.access.models import Scope
from relab.api.access import requires
from relab.api.body import read_body, require_json
from relab.api.deps import ServicesDep
from relab.api.errors import problem_responses
from relab.api.examples import AGENT_RUN_EXAMPLE
from relab.api.openapi import NO_NUL, POSTED_REFERENCE, reference
from relab.core.clock import TIME_PATTERN, parse_time
from relab.core.ids import ExternalId
from relab.telemetry.models import (
    AgentRun,
    IngestReceipt,
    RunFilter,
    RunHeader,
    RunPage,
    RunStatus,
    TimelinePage,
)

router = APIRouter(tags=["agent runs"])

RunId = Annotated[ExternalId, Path(description="The run's id, as it was posted.", examples=["run-001-sufficient"])]
Cursor = Annotated[str | None, Query(max_length=1_000, description="`next_cursor` of the page before.")]


def _refuse_nul(text: str | None) -> str | None:
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
    AfterValidator(_refuse_nul),
    WithJsonSchema({"type": "string", "pattern": NO_NUL, "maxLength": 1_000}),
]
TimeText = Annotated[
    str | None,
    Query(max_length=40, description="An RFC 3339 time; `after` is inclusive, `before` is not."),
    AfterValidator(_read_time),
    WithJsonSchema({"type": "string", "pattern": TIME_PATTERN, "maxLength": 40}),
]

_BODY_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": reference(AgentRun, POSTED_REFERENCE),
                "examples": {"a failed tool call": {"value": AGENT_RUN_EXAMPLE}},
            }
        },
    }
}


def run_filter(
    agent: Filter = None,
    version: Filter = None,
    status: RunStatus | None = None,
    environment: Filter = None,
    category: Filter = None,
    task_id: Filter = None,
    conversation_id: Filter = None,
    started_after: TimeText = None,
    started_before: TimeText = None,
    text: Filter = None,
) -> RunFilter:
    """Collect the filters of a list of runs from the query."""
    return RunFilter(
        agent_name=agent,
        agent_version=version,
        status=status,
        environment=environment,
        category=category,
        task_id=task_id,
        conversation_id=conversation_id,
        started_after_us=parse_time(started_after) if started_after else None,
        started_before_us=parse_time(started_before) if started_before else None,
        text=text,
    )


@router.post(
    "/agent-runs",
    status_code=201,
    dependencies=[requires(Scope.INGEST)],
    responses={
        200: {"model": IngestReceipt, "description": "The run was known; it was replaced, or was the same"},
        **problem_responses(401, 403, 408, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra=_BODY_SCHEMA,
    summary="Take in an agent run",
)
async def post_agent_run(request: Request, response: Response, services: ServicesDep) -> IngestReceipt:
    """Store a run whole; one of the same `run_id` is replaced. Durable once answered.

    Unknown fields are kept. The body may be gzip. `X-Ingest-Secret` is needed if one is set.
    """
    require_json(request)
    max_bytes = int(services.settings.http.max_body_mb * 1_048_576)
    async with request.app.state.ingest_gate.place(request) as place:
        body = await read_body(request, place)
        receipt = await asyncio.wrap_future(services.telemetry.submit_run(functools.partial(body.unpack, max_bytes)))
    request.app.state.metrics.ingested.labels("created" if receipt.created else "updated").inc()
    response.status_code = 201 if receipt.created else 200
    return receipt


@router.get(
    "/agent-runs",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 422, 503),
    summary="List agent runs, newest first",
)
def list_agent_runs(
    services: ServicesDep,
    wanted: Annotated[RunFilter, Depends(run_filter)],
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RunPage:
    """Runs that match every given filter, by start, newest first.

    `text` is looked for, in any case, in ids, names and error messages of the run and its parts.
    """
    return services.telemetry.list_runs(wanted, cursor=cursor, limit=limit)


@router.get(
    "/agent-runs/{run_id}",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Show an agent run with its counts",
)
def get_agent_run(run_id: RunId, services: ServicesDep) -> RunHeader:
    """The run without its timeline; fields that relab does not know come back as they were sent."""
    return services.telemetry.get(run_id)


@router.get(
    "/agent-runs/{run_id}/timeline",
    dependencies=[requires(Scope.READ)],
    response_model=TimelinePage,
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Replay a run: steps, tool calls and guardrail events by time",
)
def get_timeline(
    run_id: RunId,
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """A page of the timeline, oldest first, in an order that never changes for the same run."""
    page = services.telemetry.timeline_json(run_id, cursor=cursor, limit=limit)
    return Response(page, media_type="application/json")


@router.delete(
    "/agent-runs/{run_id}",
    status_code=204,
    dependencies=[requires(Scope.OPERATE)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Delete a run, its timeline and its analyses",
)
def delete_agent_run(run_id: RunId, services: ServicesDep) -> None:
    """The run is gone when this returns; its analyses follow within moments."""
    services.telemetry.delete(run_id)
