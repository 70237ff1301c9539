"""List groups of builds that failed for the same cause, and count how often a cause occurred."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.builds import groups_repository as queries
from relab.builds.errors import HistoryCursorError
from relab.builds.models import Build
from relab.core.clock import LATEST_US, Timestamp
from relab.storage import Database
from relab.storage.session import DatabaseSession

MAX_PROJECTS: Final = 20


class FailureGroup(BaseModel):
    """Builds that failed for the same cause.

    Attributes:
        group: the key of the group, equal to `failure_group` of its builds.
        line: the log line of the group's last build that shows the cause, with secrets masked.
        count: the number of stored builds in the group.
        first_build, last_build: the ids of the builds that started first and last.
        first_at, last_at: when these two builds started.
        projects: the projects with builds in the group, at most 20.
        goes_on: whether the newest build of at least one of `projects` belongs to the group; the cause is then still
            present. Builds that neither succeeded nor failed are ignored.
    """

    model_config = ConfigDict(frozen=True)

    group: str
    line: str
    count: int
    first_build: str
    first_at: Timestamp
    last_build: str
    last_at: Timestamp
    projects: tuple[str, ...]
    goes_on: bool


class FailureGroupPage(BaseModel):
    """A page of failure groups; `next_before` is the cursor of the next page, or None on the last page."""

    items: list[FailureGroup]
    next_before: Annotated[str, Field(max_length=100)] | None = None


class FailureRecurrence(BaseModel):
    """How many builds have failed for the same cause as a given build, and since when. Later builds are not counted.

    Attributes:
        count: the number of these builds, including the given build.
        since: when the first of these `count` builds started.
    """

    model_config = ConfigDict(frozen=True)

    count: int
    since: Timestamp


class FailureGroups:
    """Reads the groups of builds that failed for the same cause.

    Args:
        database: the database of the builds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_groups(
        self, *, project: str | None = None, before: str | None = None, limit: int = 50
    ) -> FailureGroupPage:
        """Return a page of at most `limit` groups of builds that failed for the same cause.

        Groups with the newest builds come first.

        Args:
            project: only builds of this project; None for all projects.
            before: `next_before` of the previous page; None for the first page.
            limit: the largest number of groups.

        Raises:
            HistoryCursorError: `before` is not from a previous page.
        """
        cursor = None if before is None else _read_cursor(before)
        with self._database.read() as session:
            found = queries.groups(session, project=project, before=cursor, limit=limit + 1)
            last_groups: dict[str, str | None] = {}
            items = [_group(session, row, project, last_groups) for row in found[:limit]]
        last = found[limit - 1] if len(found) > limit else None
        return FailureGroupPage(
            items=[item for item in items if item is not None],
            next_before=None if last is None else f"{last.last_us}.{last.group}",
        )

    def recurrence(self, build: Build) -> FailureRecurrence | None:
        """Return how many builds have failed for the same cause as `build`, and since when.

        `build` is counted; builds that started after it are not. Return None if `build` belongs to no failure group.
        """
        if build.failure_group is None:
            return None
        with self._database.read() as session:
            count, since = queries.count_until(session, build.failure_group, build.started_at, build.build_id)
        return FailureRecurrence(count=count, since=since)


def _group(
    session: DatabaseSession, row: queries.GroupRow, project: str | None, last_groups: dict[str, str | None]
) -> FailureGroup | None:
    """Return the `FailureGroup` for a row of the query of groups; None if its builds have been deleted since the query.

    Args:
        session: the session of the transaction.
        row: the key of the group, the number of its builds, and the starts of its first and last build.
        project: only builds of this project count; None for all projects.
        last_groups: a cache, `{project: key of the group of its last build}`; None if that build is in no group. This
            function adds missing projects.
    """
    first = queries.end_of_group(session, row.group, project, is_last=False)
    last = queries.end_of_group(session, row.group, project, is_last=True)
    if first is None or last is None:
        return None
    projects = [project] if project is not None else queries.projects_of_group(session, row.group, limit=MAX_PROJECTS)
    for name in projects:
        if name not in last_groups:
            last_groups[name] = queries.last_group_of(session, name)
    return FailureGroup(
        group=row.group,
        line=last.get("failure_line") or "",
        count=row.count,
        first_build=first["build_id"],
        first_at=row.first_us,
        last_build=last["build_id"],
        last_at=row.last_us,
        projects=tuple(projects),
        goes_on=any(last_groups[name] == row.group for name in projects),
    )


def _read_cursor(text: str) -> tuple[int, str]:
    """Decode the cursor of a page of groups: return `(time, key)` of the last group on the previous page.

    The time is the start of the group's last build, in microseconds since 1970.

    Raises:
        HistoryCursorError: the text does not begin with such a time.
    """
    last_us, _, group = text.partition(".")
    if not (last_us.isascii() and last_us.isdigit() and len(last_us) <= len(str(LATEST_US))):
        raise HistoryCursorError(text)
    return int(last_us), group
