"""ORM tables of tokens, the access state and the audit log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, Micros, OwnId


class AccessTokenRow(Base):
    """One token. Only a hash of its secret is stored.

    Times are in microseconds since 1970. `expires_at` is None if the token never expires, `revoked_at` is None if the
    token was not revoked.
    """

    __tablename__ = "access_tokens"

    token_id: Mapped[str] = mapped_column(OwnId, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    secret_hash: Mapped[str] = mapped_column(String(64))
    """SHA-256 in hex. A fast hash is enough: the secret is 256 random bits, not a password."""
    scopes: Mapped[list[Any]] = mapped_column(JSON)
    created_at: Mapped[int] = mapped_column(Micros)
    expires_at: Mapped[int | None] = mapped_column(Micros)
    revoked_at: Mapped[int | None] = mapped_column(Micros)


STATE_ID = 1
"""The key of the only row of `access_state`."""


class AccessStateRow(Base):
    """Whether the installation needs a token (`is_closed`). The table has one row, which a migration inserts.

    If the row is missing, a token is needed. `changed_at` is the time of the last change of `is_closed`, in
    microseconds since 1970; None before the first change.
    """

    __tablename__ = "access_state"

    state_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    is_closed: Mapped[bool]
    changed_at: Mapped[int | None] = mapped_column(Micros)


class AccessEventRow(Base):
    """One event of the audit log of access, with the fields of `AccessEvent`. Rows are never changed or deleted."""

    __tablename__ = "access_events"

    event_id: Mapped[str] = mapped_column(OwnId, primary_key=True)
    at: Mapped[int] = mapped_column(Micros)
    kind: Mapped[str] = mapped_column(String(20))
    token_id: Mapped[str | None] = mapped_column(OwnId)
    actor: Mapped[str] = mapped_column(String(200))
