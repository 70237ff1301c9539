"""The HTTP status of each base class of errors, for the API and for the servers of the testbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from relab.core.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    MalformedBodyError,
    NotFoundError,
    OverloadedError,
    PreconditionFailedError,
    PreconditionRequiredError,
    RelabError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedMediaError,
)

Statuses: TypeAlias = Sequence[tuple[type[RelabError], int]]
"""Pairs of an error class and its HTTP status; the first class that matches an error decides."""

# Subclasses come before their bases.
_STATUSES: Final[Statuses] = (
    (MalformedBodyError, 422),
    (UnsupportedMediaError, 415),
    (InvalidInputError, 422),
    (TooLargeError, 413),
    (NotFoundError, 404),
    (PreconditionFailedError, 412),
    (PreconditionRequiredError, 428),
    (ConflictError, 409),
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (OverloadedError, 429),
    (UnavailableError, 503),
    (ConfigurationError, 503),
)


def http_status(error: RelabError, more: Statuses = ()) -> int:
    """Return the HTTP status of the response to an error; 500 for an unknown error class.

    Args:
        error: the error.
        more: further pairs `(error class, status)`; they have priority over `_STATUSES`.
    """
    return next((status for kind, status in (*more, *_STATUSES) if isinstance(error, kind)), 500)
