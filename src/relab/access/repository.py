"""Read and write tokens, the access state and the audit log. Every function takes the session of a transaction.

Rows have the columns of the table as attributes; times are in microseconds since 1970.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, case, func, insert, or_, select, update

from relab.access.tables import STATE_ID, AccessEventRow, AccessStateRow, AccessTokenRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession

_COLUMNS = tuple(AccessTokenRow.__table__.c)
_EVENT_COLUMNS = tuple(AccessEventRow.__table__.c)


def add(session: DatabaseSession, values: dict[str, Any]) -> None:
    """Insert a token; `values` maps each column name of `AccessTokenRow` to its value."""
    session.execute(insert(table_of(AccessTokenRow)).values(values))


def get(session: DatabaseSession, token_id: str) -> Any | None:
    """Return the row of a token in the table `access_tokens`; None if no token has this id."""
    return session.execute(select(*_COLUMNS).where(AccessTokenRow.token_id == token_id)).one_or_none()


def list_tokens(session: DatabaseSession) -> list[Any]:
    """Return the rows of all tokens, oldest first."""
    return list(session.execute(select(*_COLUMNS).order_by(AccessTokenRow.token_id)))


def count_valid(session: DatabaseSession, now: int) -> int:
    """Return how many tokens can be used at the time `now`, in microseconds since 1970: not revoked and not expired."""
    statement = select(func.count()).where(
        AccessTokenRow.revoked_at.is_(None),
        or_(AccessTokenRow.expires_at.is_(None), AccessTokenRow.expires_at > now),
    )
    return session.execute(statement).scalar_one()


def state(session: DatabaseSession) -> Any | None:
    """Return `(is_closed, changed_at)` of the installation; None if the row is missing.

    `is_closed` is whether the installation needs a token. `changed_at` is the time of the last change of `is_closed`,
    in microseconds since 1970.
    """
    row = AccessStateRow
    return session.execute(select(row.is_closed, row.changed_at).where(row.state_id == STATE_ID)).one_or_none()


def set_closed(session: DatabaseSession, now: int, *, is_closed: bool) -> None:
    """Store whether the installation needs a token; if that changes, also set `changed_at` to `now`.

    The row stays locked until the transaction ends.

    Args:
        session: the session of the transaction.
        now: the current time, in microseconds since 1970.
        is_closed: whether the installation needs a token.
    """
    row = AccessStateRow
    since = case((row.is_closed == is_closed, row.changed_at), else_=now)
    # On PostgreSQL, the lock keeps `lab auth reopen` from running while a token is created; SQLite has one writer.
    changed = session.execute(
        update(table_of(row)).where(row.state_id == STATE_ID).values(is_closed=is_closed, changed_at=since)
    )
    if not cast("CursorResult[Any]", changed).rowcount:
        session.execute(insert(table_of(row)).values(state_id=STATE_ID, is_closed=is_closed, changed_at=now))


def add_event(session: DatabaseSession, values: dict[str, Any]) -> None:
    """Append an event to the audit log; `values` maps each column name of `AccessEventRow` to its value."""
    session.execute(insert(table_of(AccessEventRow)).values(values))


def list_events(session: DatabaseSession, limit: int) -> list[Any]:
    """Return the rows of the newest `limit` events of the audit log, newest first."""
    newest = select(*_EVENT_COLUMNS).order_by(AccessEventRow.event_id.desc()).limit(limit)
    return list(session.execute(newest))


def revoke(session: DatabaseSession, token_id: str, now: int) -> bool:
    """Revoke a token at the time `now`; return False if the token does not exist or is already revoked."""
    changed = session.execute(
        update(table_of(AccessTokenRow))
        .where(AccessTokenRow.token_id == token_id, AccessTokenRow.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return bool(cast("CursorResult[Any]", changed).rowcount)
