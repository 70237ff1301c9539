"""Scopes, tokens and callers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp


class Scope(StrEnum):
    """A permission that a route requires of its caller. `operate` includes `read`; `admin` includes all scopes."""

    INGEST = "ingest"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


_INCLUDES = {
    Scope.INGEST: frozenset({Scope.INGEST}),
    Scope.READ: frozenset({Scope.READ}),
    Scope.OPERATE: frozenset({Scope.OPERATE, Scope.READ}),
    Scope.ADMIN: frozenset(Scope),
}


def granted(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Return `scopes` with all scopes that they include: `operate` includes `read`, `admin` includes all."""
    return frozenset().union(*(_INCLUDES[scope] for scope in scopes))


class Caller(BaseModel):
    """The authenticated caller of a request, and its scopes."""

    model_config = ConfigDict(frozen=True)

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Return whether the caller's scopes include `scope`."""
        return scope in granted(self.scopes)


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a request.

    Attributes:
        client: the client's address as text; None for a Unix socket, or if the headers of a trusted proxy do not
            identify the client.
        via: the sign that the request came through a proxy, as a phrase for messages, such as "it has the header Via";
            None if it came directly.
    """

    client: str | None
    via: str | None = None


class TokenInfo(BaseModel):
    """A token without its secret. A caller that sends the token gets its name and its scopes.

    `expires_at` is None if the token never expires, `revoked_at` is None if the token was not revoked.
    """

    token_id: str
    name: str
    scopes: list[Scope]
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None


class NewToken(BaseModel):
    """A new token: its description (`info`), and its text (`token`), which is shown once and not stored."""

    info: TokenInfo
    token: str


class AccessState(BaseModel):
    """Whether requests to the installation need a token, and since when.

    Attributes:
        is_open: whether requests from this machine may do everything without a token.
        changed_at: the time when the installation was last closed (by a new token) or reopened; None if it never had a
            token.
        valid_tokens: the number of tokens that are valid now.
    """

    is_open: bool
    changed_at: Timestamp | None
    valid_tokens: int


class AccessEventKind(StrEnum):
    """The kind of an event in the audit log: a token was created or revoked, or the installation was reopened.

    A reopened installation accepts requests from this machine without a token again.
    """

    TOKEN_CREATED = "token_created"  # noqa: S105 a kind of event, not a token
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    REOPENED = "reopened"


class AccessEvent(BaseModel):
    """A row of the audit log: who changed the access to this installation, and when.

    Attributes:
        token_id: the id of the token that was created or revoked; None if the installation was reopened.
        actor: the person who made the change, such as `user@host`.
    """

    event_id: str
    at: Timestamp
    kind: AccessEventKind
    token_id: str | None
    actor: str
