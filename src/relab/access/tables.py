"""The tables of tokens, the access state and the audit log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, ColumnClause, Integer, String

from relab.storage.base import Base, Micros, OwnId, column


class AccessTokenRow(Base):
    """One token. Only a hash of its secret is stored.

    Times are in microseconds since 1970. `expires_at` is None if the token never expires, `revoked_at` is None if the
    token was not revoked.
    """

    __tablename__ = "access_tokens"

    token_id: ColumnClause[str] = column(OwnId, primary_key=True)
    name: ColumnClause[str] = column(String(200))
    secret_hash: ColumnClause[str] = column(String(64))
    """SHA-256 in hex. A fast hash is enough: the secret is 256 random bits, not a password."""
    scopes: ColumnClause[list[Any]] = column(JSON)
    created_at: ColumnClause[int] = column(Micros)
    expires_at: ColumnClause[int | None] = column(Micros)
    revoked_at: ColumnClause[int | None] = column(Micros)


STATE_ID = 1
"""The key of the only row of `access_state`."""


class AccessStateRow(Base):
    """Whether the installation needs a token (`is_closed`). The table has one row, which a migration inserts.

    If the row is missing, a token is needed. `changed_at` is the time of the last change of `is_closed`, in
    microseconds since 1970; None before the first change.
    """

    __tablename__ = "access_state"

    state_id: ColumnClause[int] = column(Integer, primary_key=True, autoincrement=False)
    is_closed: ColumnClause[bool] = column(Boolean)
    changed_at: ColumnClause[int | None] = column(Micros)


class AccessEventRow(Base):
    """One event of the audit log of access, with the fields of `AccessEvent`. Rows are never changed or deleted."""

    __tablename__ = "access_events"

    event_id: ColumnClause[str] = column(OwnId, primary_key=True)
    at: ColumnClause[int] = column(Micros)
    kind: ColumnClause[str] = column(String(20))
    token_id: ColumnClause[str | None] = column(OwnId)
    actor: ColumnClause[str] = column(String(200))
