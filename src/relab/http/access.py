"""FastAPI dependencies that check the caller's scope or mark a route as public, and readers of credentials."""

from __future__ import annotations

import base64
import binascii
import functools
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import SecretStr

from relab.access.models import Caller, Scope, Source
from relab.access.service import Credentials
from relab.http.deps import ServicesDep


class ScopeCheck:
    """A FastAPI dependency, `ScopeCheck(scope)`: it accepts a request only if its caller has this scope.

    The architecture tests require it on every route that is not public.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, request: Request, services: ServicesDep) -> Caller:
        """Return the caller of the request.

        Raises:
            UnauthenticatedError: the request has no valid credentials (401).
            ForbiddenError: the token lacks the scope, or a request without a token is not from this machine (403).
        """
        return self.decide(request, services, bearer_of(request))

    def decide(self, request: Request, services: ServicesDep, token: str | None) -> Caller:
        """Return the caller of a request; `token` is its bearer token, None if it has none.

        Raises:
            UnauthenticatedError: the request has no valid credentials (401).
            ForbiddenError: the token lacks the scope, or a request without a token is not from this machine (403).
        """
        return services.access.authorize(_credentials(request, token), self.scope)


async def _no_check() -> None:
    """Accept every request."""
    # A function that is not async would need a thread, and so would each public route.


def public() -> Any:
    """Return the FastAPI dependency of a public route, which needs no token and must return no secrets."""
    return Depends(_no_check)


@functools.cache
def requires(scope: Scope) -> Any:
    """Return the FastAPI dependency of a route that only callers with the scope `scope` may use.

    All calls with the same scope return the same object, so that a request is checked once even if its route names the
    dependency twice.
    """
    return Depends(ScopeCheck(scope))


OperatorDep = Annotated[Caller, requires(Scope.OPERATE)]
"""The caller of a route that requires the scope `operate`."""


def bearer_of(request: Request) -> str | None:
    """Return the token of the `Authorization` header; None if there is no bearer token."""
    return bearer_in(request.headers.get("authorization", ""))


def bearer_in(authorization: str) -> str | None:
    """Return the token in the value of an `Authorization` header; None if there is no bearer token."""
    kind, _, value = authorization.partition(" ")
    return value.strip() or None if kind.lower() == "bearer" else None


def password_of(request: Request) -> str | None:
    """Return the password of HTTP Basic credentials; None if it is empty, or if they are missing or malformed."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        _, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return password.strip() or None


def _credentials(request: Request, token: str | None) -> Credentials:
    ingest_secret = _header_text(request, "x-ingest-secret")
    source: Source = request.state.source
    return Credentials(
        bearer=SecretStr(token) if token is not None else None,
        ingest_secret=SecretStr(ingest_secret) if ingest_secret is not None else None,
        client_host=source.client,
        via=source.via,
        host=request.headers.get("host"),
        origin=request.headers.get("origin"),
        fetch_site=request.headers.get("sec-fetch-site"),
    )


def _header_text(request: Request, name: str) -> str | None:
    """Return the text of a header, decoded from UTF-8 (as curl sends it) or Latin-1; None if it is missing."""
    text = request.headers.get(name)
    try:
        return None if text is None else text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text
