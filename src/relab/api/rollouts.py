"""Routes of rollouts: start, list, show, follow, stop, apply, roll back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from relab.access.models import Scope
from relab.http.access import OperatorDep, requires
from relab.http.body import JsonBody
from relab.http.deps import BeforeId, ObjectId, PageSize, ServicesDep, TailerDep
from relab.http.event_stream import AfterDep, stream, stream_responses
from relab.http.routes import scoped
from relab.rollouts.service import Plan, RolloutPage, RolloutRecord

router = APIRouter(tags=["rollouts"])


_STREAM_EXAMPLE = (
    'id: 3\ndata: {"status":"running","step":"execute","pct":12,'
    '"message":"Measuring · window 2/16 · P95 A 41.2 ms · P95 B 33.0 ms","updated_at":"2024-01-15T10:31:00Z"}\n\n'
)
_PLAN_EXAMPLE: dict[str, Any] = {
    "base_url": "http://127.0.0.1:8011",
    "experiment": {"qps": 20.0, "window_sec": 5.0, "rounds": 8, "flow_policy": "aimd", "conc_cap": 16},
}


class RolloutDecision(BaseModel):
    """The body of a request by which a person stops a rollout, or applies or rolls back its flags.

    Its only field is a note with the reason, for the audit.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    note: Annotated[str, Field(max_length=1_000, examples=["Approved in the review."])] = ""


_Plan = Annotated[Plan, Depends(JsonBody(Plan, example=_PLAN_EXAMPLE))]
_Decision = Annotated[
    RolloutDecision,
    Depends(JsonBody(RolloutDecision, example={"note": "Approved in the review."}, is_optional=True)),
]


@router.post("/rollouts", status_code=202, **scoped(Scope.OPERATE, has_body=True), summary="Start a rollout")
def post_rollout(plan: _Plan, services: ServicesDep, caller: OperatorDep, response: Response) -> RolloutRecord:
    """Queue a rollout for a worker, and return its record.

    The body has the fields of a plan file, but must not name files of the server.
    """
    record = services.rollouts.request(plan, by=caller.name)
    response.headers["Location"] = f"/rollouts/{record.rollout_id}"
    return record


@router.get("/rollouts", **scoped(Scope.READ), summary="List rollouts, newest first")
def list_rollouts(
    services: ServicesDep,
    before: BeforeId = None,
    limit: PageSize = 50,
) -> RolloutPage:
    """Return a page of rollouts without their windows (measurements), newest first."""
    return services.rollouts.list_rollouts(before=before, limit=limit)


@router.get(
    "/rollouts/{rollout_id}", **scoped(Scope.READ, 404), summary="Show a rollout with its windows and its verdict"
)
def get_rollout(rollout_id: ObjectId, services: ServicesDep) -> RolloutRecord:
    """Return the whole record of a rollout."""
    return services.rollouts.get(rollout_id)


@router.get(
    "/rollouts/{rollout_id}/stream",
    dependencies=[requires(Scope.READ)],
    response_class=StreamingResponse,
    responses=stream_responses(_STREAM_EXAMPLE),
    summary="Follow a rollout as server-sent events",
)
async def stream_rollout(rollout_id: ObjectId, services: ServicesDep, tailer: TailerDep, after: AfterDep) -> Response:
    """Send every event of the rollout so far, then each new one; the stream ends with the rollout.

    A rollout that a `lab` command executes has a single event, at its end. Comments (`: ping`) keep idle connections
    open.
    """
    await run_in_threadpool(services.rollouts.get, rollout_id)
    return stream(tailer.follow(rollout_id, after), lambda event: event.model_dump_json(exclude={"seq"}))


@router.post(
    "/rollouts/{rollout_id}/stop",
    status_code=202,
    **scoped(Scope.OPERATE, 404, 409, has_body=True),
    summary="Stop a rollout",
)
def stop_rollout(
    rollout_id: ObjectId, decision: _Decision, services: ServicesDep, caller: OperatorDep
) -> RolloutRecord:
    """Request the stop of a rollout, and return its record.

    The process that executes the rollout restores the flags and stops within seconds. The status is `interrupted` when
    it has stopped. The audit in the record names the caller. 409 if the rollout has ended.
    """
    return services.rollouts.stop(rollout_id, by=caller.name, note=decision.note)


@router.post(
    "/rollouts/{rollout_id}/apply",
    **scoped(Scope.OPERATE, 404, 409, 412, has_body=True),
    summary="Apply the change of a rollout whose verdict is EDGE",
)
def apply_rollout(
    rollout_id: ObjectId, decision: _Decision, services: ServicesDep, caller: OperatorDep
) -> RolloutRecord:
    """Apply the new flags of a rollout that has the verdict PASS or EDGE, and read them back to check them.

    EDGE means: the change is too bad for PASS and not bad enough for FAIL, so a person decides.

    The audit in the record names the caller. 409 if the rollout has another verdict or has not ended, or if its flags
    are in force already; 412 if the flags have changed since the rollout.
    """
    return services.rollouts.apply(rollout_id, by=caller.name, note=decision.note)


@router.post(
    "/rollouts/{rollout_id}/rollback",
    **scoped(Scope.OPERATE, 404, 409, 412, has_body=True),
    summary="Restore the flags from before a rollout",
)
def roll_back_rollout(
    rollout_id: ObjectId, decision: _Decision, services: ServicesDep, caller: OperatorDep
) -> RolloutRecord:
    """Undo a rollout whose change is in force: restore the earlier flags, and check them by reading them back.

    The audit in the record names the caller. 409 if the rollout has not ended or has changed no flags, or if the earlier
    flags are already in force; 412 if another client has changed the flags since.
    """
    return services.rollouts.roll_back(rollout_id, by=caller.name, note=decision.note)
