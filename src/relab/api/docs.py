"""The API documentation: `/openapi.json`, and a page that shows it and loads nothing from other servers.

The page's scripts are those of Swagger UI, from the package `fastapi-standalone-docs`. A browser cannot send
`Authorization: Bearer` when it opens a page, so these routes also accept a token as the password of HTTP Basic. This is
safe because they only read: a browser adds Basic credentials by itself, even to a request that a page of another site
causes. Apart from the route for Langfuse's SDKs, no other route accepts HTTP Basic.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, Response

from relab.access.models import Caller, Scope
from relab.core.errors import NotFoundError
from relab.http.access import ScopeCheck, bearer_of, password_of
from relab.http.deps import ServicesDep

router = APIRouter(include_in_schema=False)

BASIC_CHALLENGE: Final = 'Basic realm="relab: a token as the password", charset="UTF-8"'
"""The `WWW-Authenticate` header of these routes.

It offers only Basic: Chromium shows no password prompt if one header offers two schemes.
"""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI needs inline styles. It runs only its own scripts and sends no request to another server."""

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>relab API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // By default, it sends the document to a server of its authors.
  validatorUrl: null,
});
"""
_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
}


class BrowserScopeCheck(ScopeCheck):
    """Checks that the caller has a scope.

    The token is a bearer token, or the password of HTTP Basic with any user name.
    """

    def __call__(self, request: Request, services: ServicesDep) -> Caller:
        """Return the caller of the request.

        Raises:
            UnauthenticatedError: the request has no valid credential (401).
            ForbiddenError: the caller lacks the required scope, or only requests from this machine are accepted (403).
        """
        request.state.challenge = BASIC_CHALLENGE
        return self.decide(request, services, bearer_of(request) or password_of(request))


_READS: Any = Depends(BrowserScopeCheck(Scope.READ))


class NoSuchFileError(NotFoundError):
    """The documentation page has no file of this name."""

    code = "file_not_found"


@router.get("/openapi.json", dependencies=[_READS], summary="The OpenAPI document")
def get_openapi(request: Request, services: ServicesDep) -> Response:
    """Return the OpenAPI 3.1 document. It names the credentials that each route needs, if it needs some."""
    access = services.access
    return JSONResponse(
        request.app.described(is_open=access.is_open(), has_ingest_secret=access.has_ingest_secret),
        # The document depends on the state of the installation.
        headers={"Cache-Control": "no-cache"},
    )


@router.get("/docs", dependencies=[_READS], summary="The documentation page")
def get_docs() -> Response:
    """Return an HTML page that shows the OpenAPI document and can send requests to this server."""
    return Response(_PAGE, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/{name}", dependencies=[_READS], summary="A file of the documentation page")
def get_docs_file(name: str = Path(max_length=100)) -> Response:
    """Return a script or the style sheet of the documentation page; 404 for any other name."""
    if name not in _TYPES:
        raise NoSuchFileError("The page /docs has no such file.")
    # The files change with the version of relab, and a new page must not use an old file.
    return Response(_file(name), media_type=_TYPES[name], headers={"Cache-Control": "no-cache"})


@functools.cache
def _file(name: str) -> bytes:
    if name == "start.js":
        return _START.encode()
    return (files("fastapi_standalone_docs") / "static" / "swagger" / name).read_bytes()
