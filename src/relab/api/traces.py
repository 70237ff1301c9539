"""Routes of OpenTelemetry: ingest traces, logs and metrics, show the spans and the logs of a run."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from relab.access.models import Caller, Scope
from relab.api.agent_runs import Cursor, RunId
from relab.api.otlp import LANGFUSE_PATH, LOGS, METRICS, TRACES, Signal, documented_body, documented_responses, receive
from relab.http.access import ScopeCheck, bearer_of, password_of, requires
from relab.http.deps import ServicesDep
from relab.http.routes import scoped
from relab.telemetry.otlp_models import LogRecordPage, SpanPage

router = APIRouter(tags=["traces"])

PageSize = Annotated[int, Query(ge=1, le=1_000)]


def _documented(signal: Signal) -> dict[str, Any]:
    return {
        "response_class": Response,
        "responses": documented_responses(signal),
        "openapi_extra": documented_body(signal),
    }


@router.post(
    TRACES.path,
    dependencies=[requires(Scope.INGEST)],
    **_documented(TRACES),
    summary="Ingest OpenTelemetry traces (OTLP/HTTP)",
)
async def post_traces(request: Request, services: ServicesDep) -> Response:
    """Store spans; each trace becomes an agent run whose id is the trace id.

    When the response is sent, the spans are stored durably. The spans of a trace may arrive in several requests, late,
    repeatedly and in any order. If the installation sets an ingest secret, a request without a token must send it as
    `X-Ingest-Secret`.
    """
    return await receive(request, services, TRACES)


class LangfuseScopeCheck(ScopeCheck):
    """Checks that the caller has a scope.

    The token is a bearer token, or the password of HTTP Basic with any user name. Langfuse's SDKs always send HTTP
    Basic, with the public key as the user name and the secret key as the password. While the installation needs no
    token, the password is ignored, so any keys are accepted.
    """

    def __call__(self, request: Request, services: ServicesDep) -> Caller:
        """Return the caller of the request.

        Raises:
            UnauthenticatedError: the request has no valid credential (401).
            ForbiddenError: the caller lacks the required scope, or only requests from this machine are accepted (403).
        """
        password = None if services.access.is_open() else password_of(request)
        return self.decide(request, services, bearer_of(request) or password)


_INGESTS_AS_LANGFUSE: Final[Any] = Depends(LangfuseScopeCheck(Scope.INGEST))


@router.post(
    LANGFUSE_PATH,
    dependencies=[_INGESTS_AS_LANGFUSE],
    **_documented(TRACES),
    summary="Ingest OpenTelemetry traces from Langfuse's SDKs",
)
async def post_langfuse_traces(request: Request, services: ServicesDep) -> Response:
    """Store spans of Langfuse's SDKs, as `POST /v1/traces` does; set the SDK's host to the address of this server.

    The secret key of the SDK is the token. While requests need no token, any keys are accepted.
    """
    return await receive(request, services, TRACES)


@router.post(
    LOGS.path,
    dependencies=[requires(Scope.INGEST)],
    **_documented(LOGS),
    summary="Ingest OpenTelemetry logs (OTLP/HTTP)",
)
async def post_logs(request: Request, services: ServicesDep) -> Response:
    """Store log records of traces. GenAI events and exceptions become events of their spans.

    When the response is sent, the records are stored durably. They may arrive before or after their spans, repeatedly
    and in any order. They do not create a run; only spans do. Records without a trace id are not stored; the response
    states their number.
    """
    return await receive(request, services, LOGS)


@router.post(
    METRICS.path,
    dependencies=[requires(Scope.INGEST)],
    **_documented(METRICS),
    summary="Accept OpenTelemetry metrics (OTLP/HTTP)",
)
async def post_metrics(request: Request, services: ServicesDep) -> Response:
    """Accept OTLP metrics, but only count their data points. The route exists so that no exporter fails.

    Nothing is stored, and the response says so.
    """
    return await receive(request, services, METRICS)


@router.get("/agent-runs/{run_id}/spans", **scoped(Scope.READ, 404), summary="Show the spans that a run was made from")
def get_spans(run_id: RunId, services: ServicesDep, cursor: Cursor = None, limit: PageSize = 500) -> SpanPage:
    """Return a page of the spans that were received for a run, ordered by span id.

    The page is empty if the run was posted as JSON.
    """
    return services.telemetry.spans(run_id, cursor=cursor, limit=limit)


@router.get("/agent-runs/{run_id}/logs", **scoped(Scope.READ, 404), summary="Show the log records of a run")
def get_logs(run_id: RunId, services: ServicesDep, cursor: Cursor = None, limit: PageSize = 500) -> LogRecordPage:
    """Return a page of the received log records of the run's trace, oldest first."""
    return services.telemetry.logs(run_id, cursor=cursor, limit=limit)
