"""Store, read and delete builds, their logs, suggestions of fixes, and decisions of the optimizer in the database.

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnClause, ColumnElement, Select, delete, func, insert, select, union, update

from relab.builds.models import BuildStatus
from relab.builds.tables import BuildDecisionRow, BuildLogRow, BuildRow, BuildSuggestionRow, BuildTestRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession

_MAX_TESTS_OF_BATCH: Final = 10_000


def add(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert a build; `values` holds every column of `builds` by name."""
    session.execute(insert(table_of(BuildRow)).values(dict(values)))


def id_of_source(session: DatabaseSession, source_key: str) -> str | None:
    """Return the id of the build that was recorded from a source (a log, file or report); None without such a build.

    `source_key` identifies the source.
    """
    return session.execute(select(BuildRow.build_id).where(BuildRow.source_key == source_key)).scalar_one_or_none()


def change(session: DatabaseSession, build_id: str, values: Mapping[str, Any]) -> None:
    """Set the columns `values` of a build."""
    session.execute(update(table_of(BuildRow)).where(BuildRow.build_id == build_id).values(dict(values)))


def end_running(session: DatabaseSession, build_id: str, values: Mapping[str, Any]) -> bool:
    """Set the columns `values` of a running build; return False, without a change, if the build is not running."""
    table = table_of(BuildRow)
    statement = update(table).where(table.c.build_id == build_id, table.c.status == BuildStatus.RUNNING.value)
    return session.execute(statement.values(dict(values)).returning(table.c.build_id)).one_or_none() is not None


def running_in(session: DatabaseSession, folder: str) -> Sequence[dict[str, Any]]:
    """Return, as JSON, the builds in a folder whose status is `running`.

    `folder` is the digest of the folder (`BuildFolder.identity`).
    """
    row = BuildRow
    is_wanted = (row.folder == folder, row.status == BuildStatus.RUNNING.value)
    return session.execute(select(row.document).where(*is_wanted)).scalars().all()


def running_folders(session: DatabaseSession) -> set[str]:
    """Return the digests (`BuildFolder.identity`) of the folders of all builds with the status `running`.

    Builds that relab did not run have no folder.
    """
    row = BuildRow
    is_wanted = (row.folder.is_not(None), row.status == BuildStatus.RUNNING.value)
    return {folder for folder in session.execute(select(row.folder).where(*is_wanted)).scalars() if folder is not None}


def add_log(session: DatabaseSession, build_id: str, text: str) -> None:
    """Insert the log of a build."""
    session.execute(insert(table_of(BuildLogRow)).values(build_id=build_id, text=text))


def get(session: DatabaseSession, build_id: str) -> dict[str, Any] | None:
    """Return a `Build` as JSON; None without such a build."""
    return session.execute(select(BuildRow.document).where(BuildRow.build_id == build_id)).scalar_one_or_none()


def log(session: DatabaseSession, build_id: str) -> str | None:
    """Return the stored log of a build, which may be shortened; None if no log is stored."""
    return session.execute(select(BuildLogRow.text).where(BuildLogRow.build_id == build_id)).scalar_one_or_none()


def list_builds(
    session: DatabaseSession, *, project: str | None, status: str | None, before: str | None, limit: int
) -> Sequence[dict[str, Any]]:
    """Return at most `limit` builds as JSON, newest first.

    Args:
        session: the session of the transaction.
        project: only builds of this project; None for all.
        status: only builds with this status; None for all.
        before: only builds whose ids are lower than this id; None to begin with the newest.
        limit: the largest number of builds.
    """
    wanted = [(BuildRow.project, project), (BuildRow.status, status)]
    return _newest(session, select(BuildRow.document), BuildRow.build_id, wanted, before, limit)


def project_names(session: DatabaseSession, name: str | None = None, *, limit: int) -> list[str]:
    """Return the names of at most `limit` projects with a build, decision or suggestion, sorted.

    Args:
        session: the session of the transaction.
        name: only this name, if such a project exists; None for all names except the empty one.
        limit: the largest number of names.
    """
    tables = (BuildRow, BuildDecisionRow, BuildSuggestionRow)
    every = [select(row.project).where(row.project != "" if name is None else row.project == name) for row in tables]
    found = union(*every).subquery()
    return list(session.execute(select(found.c.project).order_by(found.c.project).limit(limit)).scalars())


def list_failed_alike(
    session: DatabaseSession, project: str, failure_key: str, *, limit: int
) -> Sequence[dict[str, Any]]:
    """Return, as JSON, at most `limit` failed builds of a project with the key `failure_key`, newest first."""
    row = BuildRow
    statement = select(row.document).where(row.project == project, row.failure_key == failure_key)
    return session.execute(statement.order_by(row.build_id.desc()).limit(limit)).scalars().all()


def add_suggestion(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert a suggestion; `values` holds every column of `build_suggestions` by name."""
    session.execute(insert(table_of(BuildSuggestionRow)).values(dict(values)))


def change_suggestion(session: DatabaseSession, suggestion_id: str, values: Mapping[str, Any]) -> None:
    """Set the columns `values` of a suggestion."""
    table = table_of(BuildSuggestionRow)
    session.execute(update(table).where(table.c.suggestion_id == suggestion_id).values(dict(values)))


def get_suggestion(session: DatabaseSession, suggestion_id: str) -> dict[str, Any] | None:
    """Return a `StoredSuggestion` as JSON; None without such a suggestion."""
    row = BuildSuggestionRow
    return session.execute(select(row.document).where(row.suggestion_id == suggestion_id)).scalar_one_or_none()


def list_suggestions(
    session: DatabaseSession,
    *,
    project: str | None = None,
    states: Sequence[str] = (),
    failure_key: str | None = None,
    before: str | None = None,
    limit: int,
) -> Sequence[dict[str, Any]]:
    """Return at most `limit` suggestions as JSON, newest first.

    Args:
        session: the session of the transaction.
        project: only suggestions for this project; None for all.
        states: only suggestions in one of these states; empty for all.
        failure_key: only suggestions for failures with this key; None for all.
        before: only suggestions whose ids are lower than this id; None to begin with the newest.
        limit: the largest number of suggestions.
    """
    row = BuildSuggestionRow
    statement = select(row.document)
    if states:
        statement = statement.where(row.state.in_(states))
    wanted: list[tuple[ColumnClause[Any], object]] = [(row.project, project), (row.failure_key, failure_key)]
    return _newest(session, statement, row.suggestion_id, wanted, before, limit)


def delete_surplus_suggestions(session: DatabaseSession, state: str, *, keep: int) -> None:
    """Delete the oldest suggestions in a state, so that at most `keep` of them are left."""
    row = BuildSuggestionRow
    ranked = select(row.suggestion_id).where(row.state == state).order_by(row.suggestion_id.desc())
    newest_surplus = session.execute(ranked.offset(keep).limit(1)).scalar_one_or_none()
    if newest_surplus is not None:
        table = table_of(row)
        session.execute(delete(table).where(table.c.state == state, table.c.suggestion_id <= newest_surplus))


def add_decision(session: DatabaseSession, values: Mapping[str, Any]) -> None:
    """Insert a decision; `values` holds every column of `build_decisions` by name."""
    session.execute(insert(table_of(BuildDecisionRow)).values(dict(values)))


def finish_decision(session: DatabaseSession, decision_id: str, values: Mapping[str, Any]) -> bool:
    """Set the columns `values` of a decision; change nothing and return False if it has a reward, or does not exist."""
    row = BuildDecisionRow
    statement = update(table_of(row)).where(row.decision_id == decision_id, row.reward.is_(None)).values(dict(values))
    return session.execute(statement.returning(row.decision_id)).one_or_none() is not None


def get_decision(session: DatabaseSession, decision_id: str) -> dict[str, Any] | None:
    """Return a `BuildDecision` as JSON; None without such a decision."""
    statement = select(BuildDecisionRow.document).where(BuildDecisionRow.decision_id == decision_id)
    return session.execute(statement).scalar_one_or_none()


def list_decisions(
    session: DatabaseSession,
    *,
    project: str | None,
    version: int | None,
    has_reward: bool,
    before: str | None,
    limit: int,
) -> Sequence[dict[str, Any]]:
    """Return at most `limit` decisions of the build optimizer as JSON (`BuildDecision`), newest first.

    Args:
        session: the session of the transaction.
        project: only decisions for this project; None for all projects.
        version: only decisions that chose from this version of the catalogue of actions; None for all versions.
        has_reward: whether to return only decisions whose reward is known. False: all decisions.
        before: only decisions whose ids are lower than this id; None to begin with the newest decision.
        limit: the largest number of decisions.
    """
    row = BuildDecisionRow
    statement = select(row.document)
    if has_reward:
        statement = statement.where(row.reward.is_not(None))
    wanted: list[tuple[ColumnClause[Any], object]] = [(row.project, project), (row.catalogue_version, version)]
    return _newest(session, statement, row.decision_id, wanted, before, limit)


def count_running(session: DatabaseSession) -> int:
    """Return the number of builds whose status is `running`."""
    return session.execute(select(func.count()).where(BuildRow.status == BuildStatus.RUNNING.value)).scalar_one()


def count_old(session: DatabaseSession, before_us: int) -> tuple[int, int, int]:
    """Return `(builds, decisions, suggestions)`: how many are older than a time, in microseconds since 1970.

    The age of a build counts from its start. Running builds are not counted.
    """
    builds = select(func.count()).select_from(BuildRow).where(*_is_old_build(before_us))
    decisions = select(func.count()).select_from(BuildDecisionRow).where(BuildDecisionRow.decided_at < before_us)
    suggestion = BuildSuggestionRow
    suggestions = select(func.count()).select_from(suggestion).where(suggestion.suggested_at < before_us)
    return (
        session.execute(builds).scalar_one(),
        session.execute(decisions).scalar_one(),
        session.execute(suggestions).scalar_one(),
    )


def delete_old_builds(session: DatabaseSession, before_us: int, *, limit: int) -> int:
    """Delete builds that started before a time, oldest first, with their logs and tests; return their number.

    Running builds are not deleted. One call deletes at most `limit` builds, and at most `_MAX_TESTS_OF_BATCH` test
    results; but it deletes at least one build, if there is an old one.
    """
    oldest = select(BuildRow.build_id).where(*_is_old_build(before_us)).order_by(BuildRow.started_at).limit(limit)
    ids = _with_few_tests(session, session.execute(oldest).scalars().all())
    session.execute(delete(table_of(BuildTestRow)).where(BuildTestRow.build_id.in_(ids)))
    session.execute(delete(table_of(BuildLogRow)).where(BuildLogRow.build_id.in_(ids)))
    session.execute(delete(table_of(BuildRow)).where(BuildRow.build_id.in_(ids)))
    return len(ids)


def _with_few_tests(session: DatabaseSession, ids: Sequence[str]) -> Sequence[str]:
    """Return the first builds of `ids`, as many as possible with at most `_MAX_TESTS_OF_BATCH` test results in total.

    The first build is always returned, even if it has more test results.
    """
    row = BuildTestRow
    counted = select(row.build_id, func.count()).where(row.build_id.in_(ids)).group_by(row.build_id)
    counts = {found[0]: found[1] for found in session.execute(counted)}
    total = 0
    for position, build_id in enumerate(ids):
        total += counts.get(build_id, 0)
        if total > _MAX_TESTS_OF_BATCH and position > 0:
            return ids[:position]
    return ids


def delete_old_decisions(session: DatabaseSession, before_us: int, *, limit: int) -> int:
    """Delete at most `limit` decisions made before a time, oldest first; return their number.

    A decision is the optimizer's choice of an action (a change of the configuration) for a build.
    """
    row = BuildDecisionRow
    oldest = select(row.decision_id).where(row.decided_at < before_us).order_by(row.decided_at).limit(limit)
    ids = session.execute(oldest).scalars().all()
    session.execute(delete(table_of(row)).where(row.decision_id.in_(ids)))
    return len(ids)


def delete_old_suggestions(session: DatabaseSession, before_us: int, *, limit: int) -> int:
    """Delete at most `limit` suggestions of fixes made before a time, oldest first; return their number."""
    row = BuildSuggestionRow
    oldest = select(row.suggestion_id).where(row.suggested_at < before_us).order_by(row.suggested_at).limit(limit)
    ids = session.execute(oldest).scalars().all()
    session.execute(delete(table_of(row)).where(row.suggestion_id.in_(ids)))
    return len(ids)


def _is_old_build(before_us: int) -> tuple[ColumnElement[bool], ...]:
    return BuildRow.started_at < before_us, BuildRow.status != BuildStatus.RUNNING.value


def _newest(
    session: DatabaseSession,
    statement: Select[dict[str, Any]],
    key: ColumnClause[str],
    wanted: Sequence[tuple[ColumnClause[Any], object]],
    before: str | None,
    limit: int,
) -> Sequence[dict[str, Any]]:
    """Return at most `limit` of the JSON documents that a statement selects, newest first.

    Args:
        session: the session of the transaction.
        statement: selects the documents.
        key: the column with the ids; newer rows have higher ids.
        wanted: `(column, value)` pairs that a row must match; pairs with the value None are ignored.
        before: only rows whose ids are lower than this id; None to begin with the newest.
        limit: the largest number of documents.
    """
    conditions = [column == value for column, value in wanted if value is not None]
    if before is not None:
        conditions.append(key < before)
    return session.execute(statement.where(*conditions).order_by(key.desc()).limit(limit)).scalars().all()
