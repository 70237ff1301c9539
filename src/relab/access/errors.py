"""Errors of access control."""

from __future__ import annotations

from relab.core.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError


class InvalidTokenError(UnauthenticatedError):
    """The credential is malformed, unknown, revoked or expired. The message does not reveal which."""

    code = "invalid_token"
    _message = "The token is not valid."
    _remedy = "`lab auth create-token` creates a new one; send it as `Authorization: Bearer …`."

    def __init__(self) -> None:
        super().__init__(self._message, remedy=self._remedy)


class InvalidIngestSecretError(InvalidTokenError):
    """The ingest secret in the request differs from the secret of this installation."""

    _message = "The ingest secret is not valid."
    _remedy = "Send the value of `APP_INGEST_SECRET` as `X-Ingest-Secret`."


class MissingTokenError(UnauthenticatedError):
    """The route needs a credential, and the request has none."""

    code = "missing_token"


class MissingScopeError(ForbiddenError):
    """The caller is authenticated but lacks the scope for this operation."""

    code = "missing_scope"


class ForeignOriginError(ForbiddenError):
    """A request without a token is not from this machine.

    An open installation (one that needs no token) accepts requests without a token only from this machine. A request is
    foreign if it comes through a proxy, from another address or from a web page of another site, or if its `Host`
    header names another machine.
    """

    code = "foreign_origin"


class TokenNotFoundError(NotFoundError):
    """No token has this id."""

    code = "token_not_found"


class TokensInUseError(ConflictError):
    """The installation cannot be reopened (used without tokens again) because some tokens are still valid."""

    code = "tokens_in_use"
