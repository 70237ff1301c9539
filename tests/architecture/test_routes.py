"""The routes of the API: each declares its scope, or that it is public, and is described."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.routing import APIRoute
from starlette.routing import Route

from relab.access.models import Scope
from relab.api import docs
from relab.bootstrap import Services
from relab.server import create_app
from support.api.routes import Signed, declared_scope, product_routes

DESCRIPTION = {"/openapi.json", "/docs", "/docs/{name}"}
"""Routes that describe the API and return no data; an installation with tokens requires the scope to read."""

PUBLIC = {"/", "/health", "/healthz", "/readyz"}
"""Routes that load balancers and people use without a token; they return no secrets."""

SIGNED = {"/slack/command"}
"""Routes for services that sign their requests with a shared secret instead of sending a token."""


def test_every_route_declares_a_scope_or_that_it_is_public() -> None:
    public = {route.path for route in product_routes() if declared_scope(route) is None}

    assert public == PUBLIC


def test_only_the_listed_routes_accept_signatures_instead_of_tokens() -> None:
    assert {route.path for route in product_routes() if isinstance(declared_scope(route), Signed)} == SIGNED


def test_description_of_the_api_lists_all_routes_and_the_framework_adds_none(
    make_services: Callable[..., Services],
) -> None:
    app = create_app(make_services())

    assert set(app.openapi()["paths"]) == {route.path for route in product_routes() if route.include_in_schema}
    # The framework's own routes would need no token, so there must be none.
    assert [route for route in app.routes if isinstance(route, Route) and not isinstance(route, APIRoute)] == []


def test_description_of_the_api_needs_the_scope_to_read() -> None:
    routes = [route for route in docs.router.routes if isinstance(route, APIRoute)]

    assert {route.path for route in routes} == DESCRIPTION
    assert all(declared_scope(route) is Scope.READ for route in routes)


def test_every_route_is_described() -> None:
    for route in product_routes():
        assert route.include_in_schema, route.path
        assert route.summary, route.path
        assert route.endpoint.__doc__, route.path
