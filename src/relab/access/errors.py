"""Errors of access control."""

from __future__ import annotations

from relab.core.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError


class InvalidTokenError(UnauthenticatedError):
    """The credential is unknown, revoked or expired. The message never says which."""

    code = "invalid_token"

    def __init__(self) -> None:
        super().__init__(
            "The token is not valid.",
            remedy="`lab auth create-token` makes a new one; send it as `Authorization: Bearer …`.",
        )


class MissingTokenError(UnauthenticatedError):
    """The route needs a credential and none was sent."""

    code = "missing_token"


class MissingScopeError(ForbiddenError):
    """The caller is known but may not do this."""

    code = "missing_scope"


class ForeignOriginError(ForbiddenError):
    """The request comes from where an open installation takes none: another host, site or network."""

    code = "foreign_origin"


class TokenNotFoundError(NotFoundError):
    """No token has this id."""

    code = "token_not_found"


class TokensInUseError(ConflictError):
    """The installation cannot be reopened while tokens are valid."""

    code = "tokens_in_use"
