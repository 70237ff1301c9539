"""The route that suggests a fix for a failed build."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request

from relab.access.models import Scope
from relab.builds.suggestions.service import FixSuggestion, SuggestionRequest
from relab.http.access import requires
from relab.http.body import JsonBody, declared_length
from relab.http.deps import ServicesDep
from relab.http.problems import problem_responses

router = APIRouter(tags=["builds"])

MAX_BODY_BYTES: Final = 16 << 20
"""As much of a log as is read whole; JSON makes a log with many escape sequences up to six times larger."""
_EXAMPLE: Final[dict[str, Any]] = {
    "log": "npm run build\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n"
}
_Request = Annotated[
    SuggestionRequest,
    Depends(JsonBody(SuggestionRequest, example=_EXAMPLE, max_bytes=MAX_BODY_BYTES, is_strict=True)),
]


async def _reserved(request: Request) -> AsyncGenerator[None]:
    """Reserve capacity for a large body until the response is sent; the largest for a body of undeclared length."""
    async with request.app.state.ingest_gate.reserve(declared_length(request) or MAX_BODY_BYTES):
        yield


@router.post(
    "/suggest_fix",
    dependencies=[requires(Scope.READ), Depends(_reserved)],
    responses=problem_responses(401, 403, 408, 413, 415, 422, 429, 503),
    summary="Suggest a fix for a failed build",
)
def post_suggestion_request(failed: _Request, services: ServicesDep) -> FixSuggestion:
    """Return the fix of the known failure that a log shows, with the exact lines that show it, or say that it is not known.

    The body has the `log` of the failed build, its `error` in one sentence, or both, and may have the log of a build that
    passed (`passing`). It is at most 16 MiB.
    """
    return services.builds.suggest_fix(failed)
