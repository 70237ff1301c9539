"""Routes of builds: record, list, show and simulate builds.

They also choose the best action for the next build, and store the outcome of that build.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from relab.access.models import Scope
from relab.bootstrap import Services
from relab.builds.ingest.service import ReportedBuild
from relab.builds.service import (
    BestAction,
    Build,
    BuildDecision,
    BuildPage,
    BuildStatus,
    BuildSymptoms,
    DecisionOutcome,
    SimulatedBuild,
    SimulationRequest,
)
from relab.core.json import parse_json
from relab.http.access import requires
from relab.http.body import IngestGate, JsonBody, PackedBody, declared_length, read_body, read_model, require_json
from relab.http.deps import BeforeId, ObjectId, PageSize, ServicesDep
from relab.http.openapi import BodyReadByRoute
from relab.http.problems import scoped_problems
from relab.http.routes import scoped

router = APIRouter(tags=["builds"])

_SYMPTOMS: dict[str, Any] = {"status": "failed", "duration": 2.34, "error": "Out of memory during build"}
_Symptoms = Annotated[
    BuildSymptoms, Depends(JsonBody(BuildSymptoms, example=_SYMPTOMS, is_optional=True, is_strict=True))
]
_Outcome = Annotated[
    DecisionOutcome, Depends(JsonBody(DecisionOutcome, example={"status": "success", "duration": 1.9}, is_strict=True))
]
_REPORT = BodyReadByRoute(
    ReportedBuild,
    example={
        "project": "octo/engine",
        "id": "1734-1",
        "status": "failure",
        "commit": "9f3c2a1",
        "log": "make: *** [all] Error 2\n",
    },
)
_Simulation = Annotated[
    SimulationRequest,
    Depends(JsonBody(SimulationRequest, example={"fault": "memory", "action_id": 1}, is_optional=True, is_strict=True)),
]


@router.get("/simulate_build", **scoped(Scope.READ), summary="Simulate a build")
def get_simulated_build(
    request: Request, services: ServicesDep, simulation: Annotated[SimulationRequest, Query()]
) -> SimulatedBuild:
    """Return a simulated build: its status, duration and error are drawn at random from measured builds.

    The measured builds are builds of the example project. Nothing is stored; `/metrics` counts the simulated builds of
    this process.
    """
    return _simulated(request, services, simulation)


@router.post("/simulate_build", **scoped(Scope.READ, has_body=True), summary="Simulate the build in the body")
def post_simulated_build(request: Request, services: ServicesDep, simulation: _Simulation) -> SimulatedBuild:
    """Return a simulated build, as `GET /simulate_build` does.

    The body has the same fields as the query of the GET request. A missing body counts as an empty one.
    """
    return _simulated(request, services, simulation)


def _simulated(request: Request, services: Services, simulation: SimulationRequest) -> SimulatedBuild:
    build = services.builds.simulate(simulation)
    failure = "" if build.failure is None else build.failure.value
    request.app.state.metrics.count_simulated_build(build.status.value, failure, build.duration)
    return build


def _best_action(services: Services, symptoms: BuildSymptoms) -> BestAction:
    # A request that names a policy needs no flag.
    default = symptoms.policy or services.build_promotion.policy_of(symptoms.project)
    return services.builds.decisions.best_action(symptoms, default_policy=default)


@router.get("/get_best_action", **scoped(Scope.OPERATE, 409), summary="Choose the best action for a build")
def get_best_action(services: ServicesDep, symptoms: Annotated[BuildSymptoms, Query()]) -> BestAction:
    """Choose an action for the next build, and log the decision with its propensity (probability of the choice).

    The query may name the `policy`; by default it is the policy of the project.
    """
    return _best_action(services, symptoms)


@router.post(
    "/get_best_action",
    **scoped(Scope.OPERATE, 409, has_body=True),
    summary="Choose the best action for the build in the body",
)
def post_best_action(services: ServicesDep, symptoms: _Symptoms) -> BestAction:
    """Choose an action for the next build, and log the decision, as `GET /get_best_action` does.

    The body has the same fields as the query of the GET request. A missing body counts as an empty one.
    """
    return _best_action(services, symptoms)


@router.post(
    "/builds/decisions/{decision_id}/outcome",
    **scoped(Scope.OPERATE, 404, 409, has_body=True),
    summary="Report what followed a decision",
)
def post_outcome(decision_id: ObjectId, outcome: _Outcome, services: ServicesDep) -> BuildDecision:
    """Store the outcome of the build that followed a decision; the policies learn from its reward.

    409 if the outcome is known already.
    """
    return services.builds.decisions.report_outcome(decision_id, outcome)


@router.post(
    "/builds",
    status_code=201,
    dependencies=[requires(Scope.INGEST), Depends(_REPORT)],
    responses={
        200: {"model": Build, "description": "The build was recorded by an earlier report; this one changed nothing"},
        **scoped_problems(429, has_body=True),
    },
    summary="Record a build that a CI has run",
)
async def post_build(request: Request, response: Response, services: ServicesDep) -> Build:
    """Record a build, and return it with the lines of its log that explain its failure. The body may be compressed.

    Nothing is recorded if the project already has a build with the same `id` or, without an `id`, with the same
    content.
    """
    require_json(request)
    max_bytes = int(services.settings.http.max_body_mb * 1_048_576)
    gate: IngestGate = request.app.state.ingest_gate
    async with gate.reserve(declared_length(request)) as reservation:
        body = await read_body(request, reservation)
        async with gate.decoding:
            build, is_new = await run_in_threadpool(lambda: services.builds.ingest.report(_reported(body, max_bytes)))
    response.status_code = 201 if is_new else 200
    return build


def _reported(body: PackedBody, max_bytes: int) -> ReportedBuild:
    return cast("ReportedBuild", read_model(ReportedBuild, parse_json(body.unpack(max_bytes)), is_strict=True))


@router.get("/builds", **scoped(Scope.READ), summary="List builds, newest first")
def list_builds(
    services: ServicesDep,
    project: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
    status: BuildStatus | None = None,
    before: BeforeId = None,
    limit: PageSize = 50,
) -> BuildPage:
    """Return a page of builds without their logs, newest first."""
    return services.builds.list_builds(project=project, status=status, before=before, limit=limit)


@router.get("/builds/{build_id}", **scoped(Scope.READ, 404), summary="Show a build")
def get_build(build_id: ObjectId, services: ServicesDep) -> Build:
    """Return the record of a build: its configuration and its result."""
    return services.builds.get(build_id)
