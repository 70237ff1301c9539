"""Queries over flags. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, collate, insert, select, update
from sqlalchemy.orm import Session

from relab.flags.models import FlagAction
from relab.flags.tables import FlagRow, FlagVersionRow
from relab.storage.base import table_of

_ARCHIVED: FlagAction = "archived"
_COLUMNS = tuple(FlagVersionRow.__table__.c)
_INFO_COLUMNS = tuple(column for column in _COLUMNS if column.name != "content")
_IS_CURRENT = and_(FlagRow.key == FlagVersionRow.key, FlagRow.version == FlagVersionRow.version)


def add_flag(session: Session, key: str, created_at: int) -> None:
    """Insert a flag that is at its first version.

    Raises:
        sqlalchemy.exc.IntegrityError (`ConstraintError` once it leaves the unit of work): there is one of that key.
    """
    session.execute(insert(table_of(FlagRow)).values(key=key, version=1, created_at=created_at))


def lock(session: Session, key: str) -> int | None:
    """Return the current version of a flag, or None; nobody else changes the flag until the transaction ends."""
    return session.execute(select(FlagRow.version).where(FlagRow.key == key).with_for_update()).scalar_one_or_none()


def add_version(session: Session, values: dict[str, Any]) -> None:
    """Insert a version."""
    session.execute(insert(table_of(FlagVersionRow)).values(values))


def point_to(session: Session, key: str, version: int) -> None:
    """Make a version the current one."""
    session.execute(update(table_of(FlagRow)).where(FlagRow.key == key).values(version=version))


def get_current(session: Session, key: str) -> Any | None:
    """Return the current version of a flag, or None."""
    statement = select(*_COLUMNS).join(FlagRow, _IS_CURRENT).where(FlagRow.key == key)
    return session.execute(statement).one_or_none()


def get_version(session: Session, key: str, version: int) -> Any | None:
    """Return one version of a flag, or None."""
    statement = select(*_COLUMNS).where(FlagVersionRow.key == key, FlagVersionRow.version == version)
    return session.execute(statement).one_or_none()


def list_current(
    session: Session, *, with_archived: bool, after: str | None = None, limit: int | None = None
) -> Sequence[Any]:
    """Return the current versions of flags by key, from the first key after `after` on."""
    by_key = _in_byte_order(session)
    statement = select(*_COLUMNS).join(FlagRow, _IS_CURRENT).order_by(by_key).limit(limit)
    if not with_archived:
        statement = statement.where(FlagVersionRow.action != _ARCHIVED)
    if after is not None:
        statement = statement.where(by_key > after)
    return session.execute(statement).all()


def list_versions(session: Session, key: str, *, before: int | None, limit: int) -> Sequence[Any]:
    """Return the versions of a flag without their contents, newest first, from the first below `before` on."""
    statement = select(*_INFO_COLUMNS).where(FlagVersionRow.key == key)
    if before is not None:
        statement = statement.where(FlagVersionRow.version < before)
    return session.execute(statement.order_by(FlagVersionRow.version.desc()).limit(limit)).all()


def _in_byte_order(session: Session) -> ColumnElement[str]:
    """Return the key as both databases sort it alike: PostgreSQL's own order is that of some language."""
    return collate(FlagRow.key, "BINARY" if session.get_bind().dialect.name == "sqlite" else "C")
