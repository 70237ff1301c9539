"""Queries over flags. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, collate, insert, select, update

from relab.flags.models import FlagAction
from relab.flags.tables import FlagRow, FlagVersionRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession

_ARCHIVED: FlagAction = "archived"
_COLUMNS = tuple(FlagVersionRow.__table__.c)
_INFO_COLUMNS = tuple(column for column in _COLUMNS if column.name != "content")
_IS_CURRENT = and_(FlagRow.key == FlagVersionRow.key, FlagRow.version == FlagVersionRow.version)


def add_flag(session: DatabaseSession, key: str, created_at: int) -> None:
    """Insert a row for a flag whose current version is 1; `created_at` is in microseconds since 1970.

    Raises:
        sqlalchemy.exc.IntegrityError: a flag with this key exists; the unit of work converts it to `ConstraintError`.
    """
    session.execute(insert(table_of(FlagRow)).values(key=key, version=1, created_at=created_at))


def lock(session: DatabaseSession, key: str) -> int | None:
    """Lock a flag's row until the transaction ends; return the flag's current version, None if no flag has this key."""
    return session.execute(select(FlagRow.version).where(FlagRow.key == key).with_for_update()).scalar_one_or_none()


def add_version(session: DatabaseSession, values: dict[str, Any]) -> None:
    """Insert a version of a flag; `values` holds every column of `flag_versions` by name."""
    session.execute(insert(table_of(FlagVersionRow)).values(values))


def point_to(session: DatabaseSession, key: str, version: int) -> None:
    """Set the number of the current version of a flag."""
    session.execute(update(table_of(FlagRow)).where(FlagRow.key == key).values(version=version))


def get_current(session: DatabaseSession, key: str) -> Any | None:
    """Return the row of a flag's current version, with the columns of `flag_versions`; None if no flag has this key."""
    statement = select(*_COLUMNS).join(FlagRow, _IS_CURRENT).where(FlagRow.key == key)
    return session.execute(statement).one_or_none()


def get_version(session: DatabaseSession, key: str, version: int) -> Any | None:
    """Return the row of a version of a flag, with the columns of `flag_versions`; None if there is no such version."""
    statement = select(*_COLUMNS).where(FlagVersionRow.key == key, FlagVersionRow.version == version)
    return session.execute(statement).one_or_none()


def list_current(
    session: DatabaseSession, *, with_archived: bool, after: str | None = None, limit: int | None = None
) -> Sequence[Any]:
    """Return the rows of the current versions of flags, ordered by the bytes of their keys.

    Args:
        session: the session of the transaction.
        with_archived: whether to include archived flags.
        after: return only flags whose keys come after this key; None for all flags.
        limit: maximum number of rows; None for no limit.
    """
    by_key = _in_byte_order(session)
    statement = select(*_COLUMNS).join(FlagRow, _IS_CURRENT).order_by(by_key).limit(limit)
    if not with_archived:
        statement = statement.where(FlagVersionRow.action != _ARCHIVED)
    if after is not None:
        statement = statement.where(by_key > after)
    return session.execute(statement).all()


def list_versions(session: DatabaseSession, key: str, *, before: int | None, limit: int) -> Sequence[Any]:
    """Return at most `limit` rows of a flag's versions, newest first, without the column `content`.

    If `before` is not None, only versions with lower numbers are returned.
    """
    statement = select(*_INFO_COLUMNS).where(FlagVersionRow.key == key)
    if before is not None:
        statement = statement.where(FlagVersionRow.version < before)
    return session.execute(statement.order_by(FlagVersionRow.version.desc()).limit(limit)).all()


def _in_byte_order(session: DatabaseSession) -> ColumnElement[str]:
    """Return the key column with a byte-order collation, the same in SQLite and PostgreSQL."""
    # The default order of PostgreSQL depends on the configured language.
    return collate(FlagRow.key, "BINARY" if session.get_bind().dialect.name == "sqlite" else "C")
