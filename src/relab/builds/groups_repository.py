"""Database queries about groups of builds that failed for the same cause.

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, func, or_, select

from relab.builds.models import BuildStatus
from relab.builds.tables import BuildRow
from relab.storage.session import DatabaseSession

_NEWEST: Final = 200


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group of builds that failed for the same cause.

    `group` is the key of the group, and `count` the number of its builds. `first_us` and `last_us` are the starts of
    the first and the last of these builds, in microseconds since 1970.
    """

    group: str
    count: int
    first_us: int
    last_us: int


def groups(
    session: DatabaseSession, *, project: str | None, before: tuple[int, str] | None, limit: int
) -> list[GroupRow]:
    """Return at most `limit` groups of builds that failed for the same cause; groups with the newest builds come first.

    Args:
        session: the session of the transaction.
        project: only builds of this project; None for all.
        before: `(time of the last build, key)` of the last group of the previous page; None for the first page.
        limit: the largest number of groups.
    """
    row = BuildRow
    last = func.max(row.started_at)
    statement = select(row.failure_group, func.count(), func.min(row.started_at), last)
    statement = statement.where(row.failure_group.is_not(None)).group_by(row.failure_group)
    if project is not None:
        statement = statement.where(row.project == project)
    if before is not None:
        last_us, key = before
        statement = statement.having(or_(last < last_us, and_(last == last_us, row.failure_group > key)))
    statement = statement.order_by(last.desc(), row.failure_group).limit(limit)
    found = session.execute(statement)
    return [GroupRow(key, count, first, last) for key, count, first, last in found if key is not None]


def end_of_group(session: DatabaseSession, group: str, project: str | None, *, is_last: bool) -> dict[str, Any] | None:
    """Return the build of a group that started first or last, as JSON; None if no build of the group is stored.

    Args:
        session: the session of the transaction.
        group: the key of the group.
        project: only builds of this project; None for all.
        is_last: True: return the build that started last. False: return the build that started first.
    """
    row = BuildRow
    order = (row.started_at.desc(), row.build_id.desc()) if is_last else (row.started_at, row.build_id)
    statement = select(row.document).where(row.failure_group == group).order_by(*order).limit(1)
    if project is not None:
        statement = statement.where(row.project == project)
    return session.execute(statement).scalar_one_or_none()


def projects_of_group(session: DatabaseSession, group: str, *, limit: int) -> Sequence[str]:
    """Return the names, sorted, of at most `limit` projects that have builds in a failure group.

    A failure group is a group of builds that failed for the same cause.
    """
    statement = select(BuildRow.project).distinct().where(BuildRow.failure_group == group)
    return session.execute(statement.order_by(BuildRow.project).limit(limit)).scalars().all()


def last_group_of(session: DatabaseSession, project: str) -> str | None:
    """Return the key of the failure group to which a project's last build belongs; None if it belongs to no group.

    A failure group has the builds that failed for the same cause. The last build is the one with the latest start. Only
    builds that succeeded or failed are searched, and of these only the last `_NEWEST` that were recorded.
    """
    row = BuildRow
    ended = row.status.in_([BuildStatus.SUCCESS.value, BuildStatus.FAILED.value])
    columns = select(row.failure_group, row.started_at, row.build_id)
    # Logs of older builds may be recorded later, so the newest record need not be the last build.
    newest = columns.where(row.project == project, ended).order_by(row.build_id.desc()).limit(_NEWEST).subquery()
    last = select(newest.c.failure_group).order_by(newest.c.started_at.desc(), newest.c.build_id.desc()).limit(1)
    return session.execute(last).scalar_one_or_none()


def count_until(session: DatabaseSession, group: str, started_at: int, build_id: str) -> tuple[int, int]:
    """Count the builds of a group up to a given build; return `(count, start of the first build)`.

    The given build is counted, even if it was deleted; builds that started after it are not. The start is in
    microseconds since 1970.

    Args:
        session: the session of the transaction.
        group: the key of the group.
        started_at: when the given build started, in microseconds since 1970.
        build_id: the id of the given build.
    """
    row = BuildRow
    is_before = or_(row.started_at < started_at, and_(row.started_at == started_at, row.build_id <= build_id))
    statement = select(func.count(), func.min(row.started_at)).where(row.failure_group == group, is_before)
    count, first_us = session.execute(statement).one()
    # Retention may have deleted the build in the meantime.
    return (count, first_us) if count else (1, started_at)
