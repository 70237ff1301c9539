"""Insert and read the test results of builds in the database. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, func, or_, select

from relab.builds.models import BuildTestOutcome
from relab.builds.tables import BuildRow, BuildTestRow
from relab.storage.base import table_of
from relab.storage.bulk import insert_rows
from relab.storage.session import DatabaseSession

_FAILED: Final = BuildTestRow.outcome.in_([BuildTestOutcome.FAILED.value, BuildTestOutcome.FLAKY.value])


@dataclass(frozen=True, slots=True)
class FoundTest:
    """A test that a query found; `project` and `test_key` identify it.

    `build_id` is the newest build in which the test had an outcome that the query searches for.
    """

    project: str
    test_key: int
    build_id: str


@dataclass(frozen=True, slots=True)
class ResultRow:
    """The result of one test in one build; the fields are columns of the table `build_tests`."""

    test_key: int
    build_id: str
    outcome: str
    name: str
    message: str | None


def add_results(session: DatabaseSession, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert the results of a build; each row has the columns of `build_tests` in their order."""
    insert_rows(session, table_of(BuildTestRow), rows)


def failed_keys(session: DatabaseSession, project: str, limit: int) -> set[int]:
    """Return the keys of at most `limit` tests of a project that failed or were flaky in at least one build."""
    row = BuildTestRow
    statement = select(row.test_key).distinct().where(row.project == project, _FAILED).limit(limit)
    return set(session.execute(statement).scalars())


def tests_that_failed(
    session: DatabaseSession, *, project: str | None, before: tuple[str, int] | None, limit: int
) -> list[FoundTest]:
    """Return at most `limit` tests that failed or were flaky in at least one build, with the newest of these builds.

    The tests are sorted by this build, newest first.

    Args:
        session: the session of the transaction.
        project: only tests of this project; None for all.
        before: `(build id, test key)` of the last test of the previous page; None for the first page.
        limit: the largest number of tests.
    """
    row = BuildTestRow
    newest = func.max(row.build_id)
    statement = select(row.project, row.test_key, newest).where(_FAILED).group_by(row.project, row.test_key)
    if project is not None:
        statement = statement.where(row.project == project)
    if before is not None:
        build_id, test_key = before
        statement = statement.having(or_(newest < build_id, and_(newest == build_id, row.test_key > test_key)))
    statement = statement.order_by(newest.desc(), row.test_key).limit(limit)
    return [FoundTest(*found) for found in session.execute(statement)]


def tests_that_passed(
    session: DatabaseSession, *, project: str | None, after: tuple[str, int] | None, limit: int
) -> list[FoundTest]:
    """Return at most `limit` tests that have passed in a build, and never failed or been flaky.

    Each test has the newest build in which it passed. The tests are sorted by project, then by key.

    Args:
        session: the session of the transaction.
        project: only tests of this project; None for all.
        after: `(project, test key)` of the last test of the previous page; None for the first page.
        limit: the largest number of tests.
    """
    row = BuildTestRow
    # A test that was only skipped has no history.
    passed = row.outcome == BuildTestOutcome.PASSED.value
    failed = select(row.test_key).where(_FAILED)
    statement = select(row.project, row.test_key, func.max(row.build_id)).where(passed, row.test_key.not_in(failed))
    if project is not None:
        statement = statement.where(row.project == project)
    if after is not None:
        name, key = after
        statement = statement.where(or_(row.project > name, and_(row.project == name, row.test_key > key)))
    statement = statement.group_by(row.project, row.test_key).order_by(row.project, row.test_key).limit(limit)
    return [FoundTest(*found) for found in session.execute(statement)]


def results_of_tests(session: DatabaseSession, project: str, keys: Iterable[int], *, since: str) -> list[ResultRow]:
    """Return the results of some tests of a project, from builds with the id `since` or a higher one.

    `keys` are the keys of the tests.
    """
    row = BuildTestRow
    statement = select(row.test_key, row.build_id, row.outcome, row.name, row.message).where(
        row.project == project, row.test_key.in_(list(keys)), row.build_id >= since
    )
    return [ResultRow(*found) for found in session.execute(statement)]


def failed_in_build(session: DatabaseSession, build_id: str, *, limit: int) -> list[ResultRow]:
    """Return the results of at most `limit` tests that failed or were flaky in a build, sorted by the test's name."""
    row = BuildTestRow
    statement = (
        select(row.test_key, row.build_id, row.outcome, row.name, row.message)
        .where(row.build_id == build_id, _FAILED)
        .order_by(row.name)
        .limit(limit)
    )
    return [ResultRow(*found) for found in session.execute(statement)]


def newest_builds(session: DatabaseSession, project: str, *, limit: int) -> Sequence[dict[str, Any]]:
    """Return at most `limit` builds of a project as JSON, newest first."""
    row = BuildRow
    statement = select(row.document).where(row.project == project).order_by(row.build_id.desc()).limit(limit)
    return session.execute(statement).scalars().all()


def project_of(session: DatabaseSession, build_id: str) -> str | None:
    """Return the project of a build; None without such a build."""
    return session.execute(select(BuildRow.project).where(BuildRow.build_id == build_id)).scalar_one_or_none()
