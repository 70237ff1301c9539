"""Queries over stored analyses. Every function takes the session of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, update

from relab.rca.models import RcaRun, RcaStatus, RcaSummary, Report
from relab.rca.tables import RcaRunRow
from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.session import DatabaseSession

_FIELDS = tuple(name for name in RcaRun.model_fields if name != "report")
_COLUMNS = tuple(table_of(RcaRunRow).c[name] for name in _FIELDS)


def current_key(agent_run_id: str, content_hash: str) -> str:
    """Return the value of the column `current_key` for the current analysis of a run's content.

    The current analysis is the one that is returned for further requests for this content. The column is unique, so
    each content of a run has at most one current analysis. All other analyses have null in this column.
    """
    return f"{content_hash}:{agent_run_id}"


class CurrentAnalysis(NamedTuple):
    """The current analysis of a run's content: the one that is returned for further requests for the same content.

    `created_at` is in microseconds since 1970. `on_arrival` is true if no person requested the analysis. `judge` is the
    method (`JudgeMethod`) that a language model used to judge the run; `off` if none did.
    """

    rca_run_id: str
    created_at: int
    status: str
    on_arrival: bool
    judge: str


def find_current(session: DatabaseSession, agent_run_id: str, content_hash: str) -> CurrentAnalysis | None:
    """Return the current analysis of a run's content; None if no analysis of it is current.

    The current analysis is the one that is returned for further requests for the same content.
    """
    columns = (table_of(RcaRunRow).c[name] for name in CurrentAnalysis._fields)
    statement = select(*columns).where(RcaRunRow.current_key == current_key(agent_run_id, content_hash))
    row = session.execute(statement).one_or_none()
    return None if row is None else CurrentAnalysis._make(row)


def retire_current(session: DatabaseSession, agent_run_id: str, content_hash: str) -> None:
    """Mark the current analysis of a run's content as not current; it stays stored.

    The current analysis is the one that is returned for further requests for the same content.
    """
    session.execute(
        update(table_of(RcaRunRow))
        .where(RcaRunRow.current_key == current_key(agent_run_id, content_hash))
        .values(current_key=None)
    )


def add(session: DatabaseSession, values: dict[str, Any]) -> None:
    """Insert an analysis. `values` is `{name of a column of rca_runs: value}`.

    Raises:
        sqlalchemy.exc.IntegrityError: an analysis with the same `current_key` exists, because another request has just
            inserted it. `Database.write` converts this error into a `ConstraintError`.
    """
    session.execute(insert(table_of(RcaRunRow)).values(values))


def get(session: DatabaseSession, rca_run_id: str) -> RcaRun | None:
    """Return the analysis with this id, with its report; None if it does not exist."""
    statement = select(RcaRunRow.report, *_COLUMNS).where(RcaRunRow.rca_run_id == rca_run_id)
    row = session.execute(statement).one_or_none()
    return None if row is None else _rca_run(row[1:], row[0])


def list_for_run(session: DatabaseSession, agent_run_id: str, limit: int) -> list[RcaRun]:
    """Return at most `limit` analyses of a run without their reports, newest first."""
    statement = (
        select(*_COLUMNS).where(RcaRunRow.run_id == agent_run_id).order_by(RcaRunRow.rca_run_id.desc()).limit(limit)
    )
    return [_rca_run(row, None) for row in session.execute(statement)]


def summaries(session: DatabaseSession, rca_run_ids: Iterable[str]) -> dict[str, RcaSummary]:
    """Return `{analysis id: summary}` of the analyses in `rca_run_ids` that exist."""
    row = RcaRunRow
    found: dict[str, RcaSummary] = {}
    for ids in chunks(rca_run_ids):
        statement = select(row.rca_run_id, row.status, row.category).where(row.rca_run_id.in_(ids))
        found |= {
            rca_run_id: RcaSummary(RcaStatus(status), category)
            for rca_run_id, status, category in session.execute(statement)
        }
    return found


def change(session: DatabaseSession, rca_run_id: str, **values: Any) -> bool:
    """Set the columns `values` of an analysis and return True.

    If the analysis is done or does not exist, change nothing and return False.
    """
    statement = (
        update(table_of(RcaRunRow))
        .where(RcaRunRow.rca_run_id == rca_run_id, RcaRunRow.status != RcaStatus.DONE)
        .values(**values)
        .returning(RcaRunRow.rca_run_id)
    )
    return session.execute(statement).one_or_none() is not None


def delete_for_runs(session: DatabaseSession, agent_run_ids: Iterable[str], created_before: int) -> list[str]:
    """Delete the analyses of the given runs that were requested at or before `created_before`.

    Return the analyses' ids. The time is in microseconds since 1970.
    """
    deleted: list[str] = []
    for ids in chunks(agent_run_ids):
        statement = (
            delete(table_of(RcaRunRow))
            .where(RcaRunRow.run_id.in_(ids), RcaRunRow.created_at <= created_before)
            .returning(RcaRunRow.rca_run_id)
        )
        deleted.extend(session.execute(statement).scalars())
    return deleted


def count_by_category(session: DatabaseSession) -> dict[tuple[str, str], int]:
    """Return `{(status, category): number of analyses}`; the category is "" until an analysis is done."""
    statement = select(RcaRunRow.status, RcaRunRow.category, func.count()).group_by(
        RcaRunRow.status, RcaRunRow.category
    )
    return {(status, category or ""): number for status, category, number in session.execute(statement)}


def _rca_run(values: Sequence[Any], report: dict[str, Any] | None) -> RcaRun:
    fields = dict(zip(_FIELDS, values, strict=True))
    return RcaRun.model_validate({**fields, "report": None if report is None else Report.load(report)})
