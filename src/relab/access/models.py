"""Scopes, tokens and callers."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from relab.core.clock import Timestamp


class Scope(StrEnum):
    """What a route asks of its caller."""

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
    """Return everything that `scopes` allow: `operate` includes `read`, `admin` includes all."""
    return frozenset().union(*(_INCLUDES[scope] for scope in scopes))


class Caller(BaseModel):
    """Who makes a request, and what they may do."""

    model_config = ConfigDict(frozen=True)

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Return whether the caller's scopes include `scope`."""
        return scope in granted(self.scopes)


class TokenInfo(BaseModel):
    """A token as lists show it: everything but its secret."""

    token_id: str
    name: str
    scopes: list[Scope]
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None


class NewToken(BaseModel):
    """A token just made. The text is shown once and stored nowhere."""

    info: TokenInfo
    token: str
