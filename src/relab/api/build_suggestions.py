"""Routes of suggestions: suggest a fix for a failed build, list suggestions, accept or reject one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request

from relab.access.models import Scope
from relab.builds.service import (
    FixSuggestion,
    StoredSuggestion,
    SuggestionPage,
    SuggestionRequest,
    SuggestionState,
    VerdictRequest,
)
from relab.http.access import OperatorDep, requires
from relab.http.body import JsonBody, declared_length
from relab.http.deps import BeforeId, ObjectId, PageSize, ServicesDep
from relab.http.problems import scoped_problems
from relab.http.routes import scoped

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
_Verdict = Annotated[
    VerdictRequest,
    Depends(
        JsonBody(
            VerdictRequest,
            example={"verdict": "accepted", "note": "memory_mb was too small for the linker; 512 is enough"},
            is_strict=True,
        )
    ),
]


async def _reserved(request: Request) -> AsyncGenerator[None]:
    """Reserve memory for the body of a request until the response is sent; reject the request if too little is left.

    If the request does not declare the length of its body, the largest allowed length is reserved.
    """
    async with request.app.state.ingest_gate.reserve(declared_length(request) or MAX_BODY_BYTES):
        yield


@router.post(
    "/suggest_fix",
    dependencies=[requires(Scope.READ), Depends(_reserved)],
    responses=scoped_problems(429, has_body=True),
    summary="Suggest a fix for a failed build",
)
def post_suggestion_request(failed: _Request, services: ServicesDep) -> FixSuggestion:
    """Suggest a fix for a failed build, and return it with the lines of the log that show the failure.

    The body contains the `log` of the failed build, its `error` in one sentence, or both; at most 16 MiB. It may also
    contain the log of a build that passed (`passing`), and the name of the `project`. With `project`, earlier fixes in
    the project are returned too. If the failure is not known, the response says so. The suggestion is stored without
    the texts of the body. Use its `suggestion_id` to send a verdict later: whether it was accepted.
    """
    return services.builds.suggest_fix(failed)


@router.get("/builds/suggestions", **scoped(Scope.READ), summary="List suggestions for failed builds, newest first")
def list_suggestions(
    services: ServicesDep,
    project: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
    status: SuggestionState | None = None,
    before: BeforeId = None,
    limit: PageSize = 50,
) -> SuggestionPage:
    """Return a page of suggestions, newest first, with the verdicts about them."""
    return services.builds.suggestions.list_suggestions(project=project, state=status, before=before, limit=limit)


@router.post(
    "/builds/suggestions/{suggestion_id}/verdict",
    **scoped(Scope.OPERATE, 404, has_body=True),
    summary="Accept or reject a suggestion",
)
def post_verdict(
    suggestion_id: ObjectId, verdict: _Verdict, services: ServicesDep, caller: OperatorDep
) -> StoredSuggestion:
    """Store the caller's verdict about a suggestion.

    The verdict influences later suggestions for the same kind of failure. It replaces an earlier verdict about the
    suggestion. The same verdict again, without a new note, changes nothing.
    """
    return services.builds.suggestions.judge(suggestion_id, verdict.verdict, by=caller.name, note=verdict.note)
