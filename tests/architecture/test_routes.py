"""Every route says who may call it."""

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
"""They describe the API and hold no data; where tokens are needed they need one that reads."""

PUBLIC = {"/", "/health", "/healthz", "/readyz"}
"""Asked by load balancers and people before they have a token; they tell no secrets."""

SIGNED = {"/slack/command"}
"""Called by services that have no token of ours, and sign what they send with a secret that was agreed on."""


def test_every_route_declares_a_scope_or_that_it_is_public() -> None:
    public = {route.path for route in product_routes() if declared_scope(route) is None}

    assert public == PUBLIC


def test_no_other_route_lets_signatures_stand_for_tokens() -> None:
    assert {route.path for route in product_routes() if isinstance(declared_scope(route), Signed)} == SIGNED


def test_these_are_all_routes(make_services: Callable[..., Services]) -> None:
    app = create_app(make_services())

    assert set(app.openapi()["paths"]) == {route.path for route in product_routes() if route.include_in_schema}
    # None of the framework's own, which would need no token.
    assert [route for route in app.routes if isinstance(route, Route) and not isinstance(route, APIRoute)] == []


def test_the_description_of_the_api_needs_the_right_to_read() -> None:
    routes = [route for route in docs.router.routes if isinstance(route, APIRoute)]

    assert {route.path for route in routes} == DESCRIPTION
    assert all(declared_scope(route) is Scope.READ for route in routes)


def test_every_route_is_described() -> None:
    for route in product_routes():
        assert route.include_in_schema, route.path
        assert route.summary, route.path
        assert route.endpoint.__doc__, route.path
