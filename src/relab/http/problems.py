"""The mapping from errors to HTTP statuses and RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from relab.core.errors import (
    InvalidInputError,
    OverloadedError,
    RelabError,
    UnauthenticatedError,
    UnavailableError,
)
from relab.core.http_statuses import http_status
from relab.core.logging import get_logger
from relab.core.validation import plain_message
from relab.http.openapi import reference

PROBLEM_TYPE = "application/problem+json"

ErrorForm: TypeAlias = Callable[[Request, int, str, dict[str, str] | None], Response]
"""A function that returns an error response in the format of another protocol (not RFC 9457), such as OTLP.

Its arguments are the request, the status, the detail and the headers.
"""

CLIENT_CLOSED_REQUEST = 499
"""The status of a request whose client disconnected. It is not registered; nginx logs the same number."""

_TITLES = {
    400: "Bad request",
    401: "Authentication needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    414: "Request target too long",
    415: "Unsupported media type",
    422: "Invalid input",
    428: "Precondition required",
    429: "Too many requests",
    499: "Client closed request",
    500: "Internal error",
    503: "Unavailable",
}

_log = get_logger(__name__)


class FieldProblem(BaseModel):
    """One error in one field of a request."""

    field: str = Field(examples=["steps.0.started_at"])
    message: str


class ProblemDocument(BaseModel):
    """An RFC 9457 problem document."""

    type: str = Field("about:blank", description="`urn:relab:problem:<code>`: stable, for programs.")
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = Field([], description="The invalid fields.")
    request_id: str | None = Field(None, description="Find it in the server's log.")


def problem_response(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: list[FieldProblem] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return the response for a failed request.

    It is a problem document. Some paths have another protocol, such as OTLP; their errors have its format.

    Args:
        request: the request.
        status: the HTTP status.
        code: the name of the error, for programs.
        detail: the message for a person.
        errors: the invalid fields.
        headers: additional headers of the response.
    """
    # `install_error_handlers` registers these formats.
    form: ErrorForm | None = request.app.state.error_forms.get(request.url.path)
    if form is not None:
        return form(request, status, detail, headers)
    problem = ProblemDocument(
        type=f"urn:relab:problem:{code}",
        title=_TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        errors=errors or [],
        request_id=getattr(request.state, "request_id", None),
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), status_code=status, media_type=PROBLEM_TYPE, headers=headers
    )


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route for problem documents with these HTTP statuses.

    The status 422 (invalid input) also adds 414, because input in the URL can make the URL too long.
    """
    return {
        status: {
            "description": _TITLES[status],
            "content": {PROBLEM_TYPE: {"schema": reference(ProblemDocument)}},
        }
        # Input can make the request target too long (414).
        for status in sorted({*statuses, *((414,) if 422 in statuses else ())})
    }


def scoped_problems(*statuses: int, has_body: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` for the errors of a route that requires a scope and has parameters or a body.

    They describe problem documents with the statuses 401, 403, 414, 422, 503 and `statuses`. If the route has a body,
    also 408, 413 and 415.
    """
    return problem_responses(401, 403, 422, 503, *((408, 413, 415) if has_body else ()), *statuses)


def install_error_handlers(app: FastAPI, forms: Mapping[str, ErrorForm]) -> None:
    """Make the app answer every error with a problem document.

    Args:
        app: the app.
        forms: `{path: function}` for protocols without problem documents, such as OTLP; the function returns the error
            response.
    """
    app.state.error_forms = forms
    app.add_exception_handler(RelabError, _on_relab_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_bug)


async def _on_relab_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RelabError)
    status, detail, retry_after_s = describe_error(error)
    headers: dict[str, str] = {}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if isinstance(error, UnauthenticatedError):
        # Routes for browsers set another challenge.
        headers["WWW-Authenticate"] = getattr(request.state, "challenge", "Bearer")
    errors = None
    if isinstance(error, InvalidInputError):
        errors = [FieldProblem(field=field, message=message) for field, message in error.problems]
    return problem_response(request, status, error.code, detail, errors=errors, headers=headers)


def describe_error(error: RelabError) -> tuple[int, str, int | None]:
    """Return `(HTTP status of an error, text for the client, seconds until a retry may succeed)`.

    The seconds are None if no retry is suggested. An error with a status of 500 or more is also logged.
    """
    status = http_status(error)
    retry_after_s = None
    if isinstance(error, OverloadedError):
        retry_after_s = error.retry_after_s
    elif isinstance(error, UnavailableError):
        retry_after_s = 1
    if status >= 500:
        _log.error("request_failed", code=error.code, error=str(error), exc_info=error if status == 500 else None)
    # Internal details (hosts, users, versions) belong in the log, unless the error allows them.
    detail = (
        str(error)
        if status < 500 or error.is_safe_to_show
        else f"relab cannot answer right now ({error.code}); the reason is in its log."
    )
    return status, detail, retry_after_s


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        FieldProblem(
            field=".".join(str(part) for part in item["loc"]) or "body",
            message=plain_message(item["msg"]),
        )
        for item in error.errors()
    ]
    first = errors[0]
    detail = f"{first.field}: {first.message}."
    return problem_response(request, 422, "invalid_input", detail, errors=errors)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    if error.status_code == 405:
        # The framework lists only the methods of the first route of this path.
        headers = {"Allow": ", ".join(methods_of(request))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return problem_response(request, error.status_code, code, f"{error.detail}.", headers=headers)


def methods_of(request: Request) -> list[str]:
    """Return the HTTP methods that the path of a request supports, sorted, with `OPTIONS`."""
    path = request.scope["path"]
    routes = (route for router in request.app.state.routers for route in router.routes)
    fitting = (route.methods or () for route in routes if isinstance(route, APIRoute) and route.path_regex.match(path))
    return sorted({"OPTIONS"}.union(*fitting))


async def _on_disconnect(request: Request, _error: Exception) -> Response:
    """Return the response for a client that disconnected while it sent its body.

    The client does not receive this response. The status of the response appears only in the log and the metrics.
    """
    # Not 400, because the request was not wrong.
    return problem_response(
        request, CLIENT_CLOSED_REQUEST, "client_disconnected", "The connection closed before the body was complete."
    )


async def _on_bug(request: Request, error: Exception) -> Response:
    _log.error("request_crashed", exc_info=error)
    return problem_response(request, 500, "internal", "An internal error occurred; it is in the server's log.")
