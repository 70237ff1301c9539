"""The product's routes and the scope that each one declares."""

from __future__ import annotations

from enum import Enum

from fastapi.routing import APIRoute

from relab.access.models import Scope
from relab.api import docs
from relab.api.slack import SignatureCheck
from relab.http.access import ScopeCheck, public
from relab.server import ROUTE_MODULES

ROUTERS = tuple(module.router for module in ROUTE_MODULES["all"] if module is not docs)


class Signed(Enum):
    """The service that signs the requests of a route without our tokens."""

    BY_SLACK = "slack"


class UndeclaredScopeError(AssertionError):
    """The route declares neither a scope nor that it is public."""


def product_routes() -> list[APIRoute]:
    """Return every route of the API."""
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def declared_scope(route: APIRoute) -> Scope | Signed | None:
    """Return the scope that the route declares, the service that signs its requests instead, or None for a public route.

    Raises:
        UndeclaredScopeError: the route declares no access rule, or more than one.
    """
    declared: list[Scope | Signed | None] = []
    for dependency in route.dependencies:
        if isinstance(dependency.dependency, ScopeCheck):
            declared.append(dependency.dependency.scope)
        elif isinstance(dependency.dependency, SignatureCheck):
            declared.append(Signed.BY_SLACK)
        elif dependency.dependency is public().dependency:
            declared.append(None)
    if len(declared) != 1:
        raise UndeclaredScopeError(f"{sorted(route.methods or ())} {route.path} declares {declared or 'no scope'}")
    return declared[0]
