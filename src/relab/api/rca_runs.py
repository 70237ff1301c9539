"""Routes of root cause analyses: request an analysis, read it, follow its progress."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from relab.access.models import Scope
from relab.api.agent_runs import RunId
from relab.http.access import requires
from relab.http.deps import ObjectId, PageSize, ServicesDep, TailerDep
from relab.http.event_stream import AfterDep, stream, stream_responses
from relab.http.routes import scoped
from relab.rca.models import JudgeMethod, RcaRun
from relab.rca.service import RcaReceipt

router = APIRouter(tags=["root cause analysis"])


_STREAM_EXAMPLE = (
    'id: 1\ndata: {"status":"running","step":"Starting RCA","pct":5,'
    '"message":"Starting RCA","updated_at":"2024-01-15T10:31:00Z"}\n\n'
)


@router.post(
    "/agent-runs/{run_id}/rca-runs",
    status_code=202,
    **scoped(Scope.OPERATE, 404, 409),
    summary="Request a root cause analysis of a run",
)
def post_rca_run(
    run_id: RunId,
    services: ServicesDep,
    force: Annotated[bool, Query(description="Analyse again even if an analysis of this content exists.")] = False,
    judge: Annotated[
        JudgeMethod | None,
        Query(description="How the configured language model judges the run; without it, the settings decide."),
    ] = None,
) -> RcaReceipt:
    """Queue an analysis of a run, or return the id of an existing analysis of the same content.

    Unless `force` is set, an existing analysis is used if it is queued, running or done, and has what the request needs,
    such as the requested `judge`. If `judge` is not `off`, the language model also judges the behaviours that are
    described by a sentence. 409 if `judge` is given, is not `off`, and no language model is configured.
    """
    return services.rca.request(run_id, force=force, judge=judge)


@router.get(
    "/agent-runs/rca-runs/{rca_run_id}",
    **scoped(Scope.READ, 404),
    summary="Show an analysis, with its report when it is done",
)
def get_rca_run(rca_run_id: ObjectId, services: ServicesDep) -> RcaRun:
    """Return the status and the report of an analysis.

    `report.evidence_index` contains all evidence that the claims of the report cite.
    """
    return services.rca.get(rca_run_id)


@router.get(
    "/agent-runs/{run_id}/rca-runs", **scoped(Scope.READ, 404), summary="List the analyses of a run, newest first"
)
def list_rca_runs(run_id: RunId, services: ServicesDep, limit: PageSize = 50) -> list[RcaRun]:
    """Return the analyses of a run without their reports, newest first."""
    services.telemetry.get_content(run_id)
    return services.rca.list_for_run(run_id, limit=limit)


@router.get(
    "/rca-runs/{rca_run_id}/stream",
    dependencies=[requires(Scope.READ)],
    response_class=StreamingResponse,
    responses=stream_responses(_STREAM_EXAMPLE),
    summary="Follow an analysis as server-sent events",
)
async def stream_rca_run(rca_run_id: ObjectId, services: ServicesDep, tailer: TailerDep, after: AfterDep) -> Response:
    """Send every stage of the analysis so far as an event, then each new stage; the stream ends with the analysis.

    Comments (`: ping`) keep idle connections open.
    """
    await run_in_threadpool(services.rca.get, rca_run_id)
    return stream(tailer.follow(rca_run_id, after), lambda event: event.model_dump_json(exclude={"seq"}))
