"""Queries over tokens. Every function takes the session of a transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, or_, select, update
from sqlalchemy.orm import Session

from relab.access.tables import AccessTokenRow
from relab.storage.base import table_of

_COLUMNS = tuple(AccessTokenRow.__table__.c)


def add(session: Session, values: dict[str, Any]) -> None:
    """Insert a token."""
    session.execute(insert(table_of(AccessTokenRow)).values(values))


def get(session: Session, token_id: str) -> Any | None:
    """Return the row of a token, or None."""
    return session.execute(select(*_COLUMNS).where(AccessTokenRow.token_id == token_id)).one_or_none()


def list_tokens(session: Session) -> list[Any]:
    """Return all tokens, oldest first."""
    return list(session.execute(select(*_COLUMNS).order_by(AccessTokenRow.token_id)))


def has_valid(session: Session, now: int) -> bool:
    """Return whether any token can be used now."""
    statement = select(AccessTokenRow.token_id).where(
        AccessTokenRow.revoked_at.is_(None),
        or_(AccessTokenRow.expires_at.is_(None), AccessTokenRow.expires_at > now),
    )
    return session.execute(statement.limit(1)).first() is not None


def revoke(session: Session, token_id: str, now: int) -> bool:
    """Revoke a token; False when there is none. Revoking twice keeps the first time."""
    known = get(session, token_id)
    if known is None:
        return False
    session.execute(
        update(table_of(AccessTokenRow))
        .where(AccessTokenRow.token_id == token_id, AccessTokenRow.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return True
