"""Make the testbed's servers answer every error with a problem document (RFC 9457).

The document has a code for programs and a message for people. For invalid input, it also lists the wrong fields.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from relab.core.errors import InvalidInputError, RelabError
from relab.core.http_statuses import Statuses, http_status
from relab.core.validation import plain_message

MAX_BODY_BYTES: Final = 65_536
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


def add_problems(app: FastAPI, more: Statuses = ()) -> None:
    """Make a server answer errors with problem documents (RFC 9457), and limit the size of request bodies.

    A body over 64 KiB, or of unknown length (header Transfer-Encoding), is rejected and not read.

    Args:
        app: the FastAPI app of one of the testbed's servers.
        more: `(error class, HTTP status)` pairs that take precedence over the statuses common to all of relab.
    """

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, RelabError)
        status = http_status(error, more)
        details = {}
        if isinstance(error, InvalidInputError) and error.problems:
            details["problems"] = [{"field": field, "message": message} for field, message in error.problems]
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        retry_after_s = getattr(error, "retry_after_s", None)
        if retry_after_s is not None:
            headers["Retry-After"] = str(max(math.ceil(retry_after_s), 1))
        return document(status, error.code, str(error), details, headers)

    app.add_exception_handler(RelabError, problem)
    app.add_exception_handler(RequestValidationError, _unreadable)
    # For unknown routes, wrong methods and bodies that are not valid text.
    app.add_exception_handler(HTTPException, _refused)
    app.middleware("http")(_bounded)


def document(
    status: int, code: str, detail: str, more: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return a problem document (RFC 9457) as an HTTP response.

    Args:
        status: the HTTP status.
        code: the code of the error, for programs.
        detail: the message for people.
        more: further fields of the document; None to add no fields.
        headers: HTTP headers of the response; None to add no headers.
    """
    content = {"type": "about:blank", "status": status, "code": code, "detail": detail, **(more or {})}
    return Response(json.dumps(content), status, headers=headers, media_type="application/problem+json")


async def _unreadable(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        {"field": ".".join(map(str, item["loc"]))[:200], "message": plain_message(item["msg"])[:500]}
        for item in error.errors()[:20]
    ]
    return document(422, "invalid_input", f"{problems[0]['field']}: {problems[0]['message']}.", {"problems": problems})


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "invalid_request")
    return document(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))


async def _bounded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY_BYTES or "transfer-encoding" in request.headers:
        return document(413, "too_large", f"A body has a Content-Length of at most {MAX_BODY_BYTES:,} bytes.")
    return await call_next(request)
