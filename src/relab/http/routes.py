"""Arguments for the decorators of routes that require a scope."""

from __future__ import annotations

from typing import Any

from relab.access.models import Scope
from relab.http.access import requires
from relab.http.problems import scoped_problems


def scoped(scope: Scope, *statuses: int, has_body: bool = False) -> dict[str, Any]:
    """Return the arguments `dependencies` and `responses` for the decorator of a route that requires a scope.

    Args:
        scope: the scope that the caller needs.
        statuses: HTTP statuses of errors for the OpenAPI document, in addition to those of `scoped_problems`.
        has_body: whether requests have a body.
    """
    return {"dependencies": [requires(scope)], "responses": scoped_problems(*statuses, has_body=has_body)}
