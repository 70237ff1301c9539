"""Routes of OpenTelemetry: ingest traces, show the spans of a run."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from relab.access.models import Scope
from relab.api.agent_runs import Cursor, RunId
from relab.api.otlp import JSON_TYPE, PROTOBUF_TYPES, TRACES_PATH, export_response
from relab.core.errors import UnsupportedMediaError
from relab.http.access import requires
from relab.http.body import media_type, read_body
from relab.http.deps import ServicesDep
from relab.http.problems import problem_responses
from relab.telemetry.models import SpanPage

router = APIRouter(tags=["traces"])

_STATUS = {"description": "`google.rpc.Status`, encoded like the request"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An OTLP `ExportTraceServiceRequest`; may be gzip.",
        "content": {
            "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
            JSON_TYPE: {"schema": {"type": "object"}},
        },
    }
}


@router.post(
    TRACES_PATH,
    dependencies=[requires(Scope.INGEST)],
    response_class=Response,
    responses={
        200: {
            "description": "`ExportTraceServiceResponse`, encoded like the request; with the number of rejected spans and the reasons",
            "content": {
                "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
                JSON_TYPE: {"schema": {"type": "object"}},
            },
        },
        **dict.fromkeys((400, 401, 403, 408, 413, 415, 429, 503), _STATUS),
    },
    openapi_extra=_BODY,
    summary="Ingest OpenTelemetry traces (OTLP/HTTP)",
)
async def post_traces(request: Request, services: ServicesDep) -> Response:
    """Store spans; each trace becomes an agent run whose id is the trace id.

    The spans are durable when the response is sent. Spans may arrive late, repeatedly, in any order and in several
    requests. `X-Ingest-Secret` is required if the installation sets one.
    """
    given = media_type(request, default="")
    if given not in PROTOBUF_TYPES and given != JSON_TYPE:
        raise UnsupportedMediaError(
            f"The content type {given[:100]!r} is not a content type of OTLP.",
            remedy="Send `Content-Type: application/x-protobuf` or `application/json`.",
        )
    max_bytes = int(services.settings.http.max_body_mb * 1_048_576)
    async with request.app.state.ingest_gate.reserve(request) as reservation:
        body = await read_body(request, reservation)
        receipt = await asyncio.wrap_future(
            services.telemetry.submit_traces(
                functools.partial(body.unpack, max_bytes), "json" if given == JSON_TYPE else "protobuf"
            )
        )
    spans = request.app.state.metrics.spans
    spans.labels("accepted").inc(receipt.accepted)
    spans.labels("rejected").inc(receipt.rejected)
    return export_response(request, receipt)


@router.get(
    "/agent-runs/{run_id}/spans",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Show the spans that a run was made from",
)
def get_spans(
    run_id: RunId,
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 500,
) -> SpanPage:
    """Return a page of the received spans, ordered by span id; empty for a run that was posted as JSON."""
    return services.telemetry.spans(run_id, cursor=cursor, limit=limit)
